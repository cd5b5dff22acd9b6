"""Cut a trained Keras classifier into a backbone (image -> maps) and a head (maps -> logit)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from sonoedge.edge_runtime.bundle.contract import Branch
from sonoedge.edge_runtime.errors import ModelError
from sonoedge.export.convert.head import ACTIVATIONS, Activation, Dense, GraphHead, Head, Scale, Step
from sonoedge.export.convert.logit import activation_name, producer, tail_model

Join = Literal["gap", "flatten"]
_SKIPPED = (keras.layers.Dropout, keras.layers.Identity, keras.layers.GaussianNoise, keras.layers.SpatialDropout2D)


class _NotClosed(Exception):
    """The head is not a chain whose gradient is written out in `export.convert.head`; the message says why."""


@dataclass(frozen=True)
class SplitModel:
    """A classifier in two parts.

    Attributes:
        full: the Keras model as it was given: image (N, H, W, 3) -> probability.
        backbone: image -> dict of branch maps (N, h, w, C); shares its layers with ``full``.
        head: the rest: a `export.convert.head.Head` in closed form if that is exact, else a `GraphHead`.
        input_size: (height, width) in pixels.
        tail: the Keras layers of the head, list of branch maps -> logit (N, 1).
        not_closed: why the head has no closed form; empty if it has one.
    """

    full: keras.Model
    backbone: keras.Model
    head: Head | GraphHead
    input_size: tuple[int, int]
    tail: keras.Model
    not_closed: str = ""


def split_model(model: keras.Model, split_layer: str = "features") -> SplitModel:
    """Split at the output of a top-level layer.

    A head that is a chain of pooling or flattening, then dense, activation, dropout and batch normalisation layers
    gets its gradient in closed form. For any other head the gradient of TensorFlow is exported. The head must end
    in one logit; a final sigmoid, or a softmax over two classes, is understood.

    Args:
        model: one input (N, height, width, 3) of fixed size, one output.
        split_layer: name of a layer whose output is the feature map, or the joined or pooled maps of branches.

    Raises:
        ModelError: another input or output, no such layer, maps of variable size, more than one logit, or a logit
            that depends on more than that layer.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError("The model must have one input, the image, and one output.")
    shape = model.inputs[0].shape
    if len(shape) != 4 or shape[3] != 3 or None in shape[1:]:
        raise ModelError(f"The model's input must be (N, height, width, 3) of fixed size. Received: {shape}.")
    if split_layer not in {layer.name for layer in model.layers}:
        names = ", ".join(layer.name for layer in model.layers)
        raise ModelError(f"The model has no top-level layer {split_layer!r}. It has: {names}.")
    cut = model.get_layer(split_layer)
    maps, pooled = _branch_maps(cut.output)
    branches = _describe(maps)
    tail = tail_model(model, maps)
    head: Head | GraphHead
    try:
        head, reason = _closed_form(model, cut, branches, pooled), ""
    except _NotClosed as error:
        head, reason = GraphHead(branches, tail), str(error)
    outputs = {branch.name: tensor for branch, tensor in zip(branches, maps, strict=True)}
    backbone = keras.Model(model.inputs[0], outputs, name="backbone")
    return SplitModel(model, backbone, head, (shape[1], shape[2]), tail, reason)


def _closed_form(
    model: keras.Model, cut: keras.layers.Layer, branches: tuple[Branch, ...], pooled: bool | None
) -> Head:
    if pooled is None:
        raise _NotClosed("some branches are pooled before they are joined and some are not")
    chain = _chain(model.outputs[0], cut)
    join, rest = ("gap", chain) if pooled else _joining(chain)
    if join == "flatten" and len({(branch.height, branch.width) for branch in branches}) > 1:
        raise _NotClosed("branches of different grids are flattened")
    return Head(branches, "flatten" if join == "flatten" else "gap", _steps(rest))


def _chain(output: Any, cut: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers after ``cut``, first to last."""
    chain: list[keras.layers.Layer] = []
    tensor = output
    while True:
        layer, inputs = producer(tensor)
        if layer is cut:
            return chain[::-1]
        if len(inputs) != 1:
            raise _NotClosed(f"{layer.name} ({type(layer).__name__}) has {len(inputs)} inputs")
        chain.append(layer)
        tensor = inputs[0]


def _branch_maps(features: Any) -> tuple[list[Any], bool | None]:
    """The 4-D maps of the features, and whether they are pooled at the cut already; None if only some are."""
    layer, inputs = producer(features)
    parts = inputs if isinstance(layer, keras.layers.Concatenate) else [features]
    maps, pooled = [], []
    for part in parts:
        origin, before = producer(part)
        is_pool = isinstance(origin, keras.layers.GlobalAveragePooling2D)
        maps.append(before[0] if is_pool else part)
        pooled.append(is_pool)
    for tensor in maps:
        if len(tensor.shape) != 4 or None in tensor.shape[1:]:
            raise ModelError(f"Branch maps must be (N, h, w, C) of fixed size. Received: {tensor.shape}.")
    return maps, pooled[0] if len(set(pooled)) == 1 else None


def _describe(maps: list[Any]) -> tuple[Branch, ...]:
    names = []
    for tensor in maps:
        layer, inputs = producer(tensor)
        if isinstance(layer, keras.layers.Identity):
            layer, _ = producer(inputs[0])
        names.append(re.sub(r"[^a-z0-9_]+", "_", layer.name.lower()).strip("_") or "backbone")
    if len(set(names)) < len(names):
        names = [f"{name}_{i}" for i, name in enumerate(names)]
    return tuple(Branch(name, *map(int, tensor.shape[1:])) for name, tensor in zip(names, maps, strict=True))


def _joining(chain: list[keras.layers.Layer]) -> tuple[Join, list[keras.layers.Layer]]:
    for i, layer in enumerate(chain):
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            return "gap", chain[:i] + chain[i + 1 :]
        if isinstance(layer, keras.layers.Flatten):
            return "flatten", chain[:i] + chain[i + 1 :]
        if not isinstance(layer, _SKIPPED):
            break
    raise _NotClosed("it does not start with global average pooling or flattening")


def _steps(layers: list[keras.layers.Layer]) -> tuple[Step, ...]:
    """Steps of the head's layers, down to the logit; `export.convert.logit` says what is removed at the end."""
    steps: list[Step] = []
    for layer in layers:
        steps += _layer_steps(layer)
    if isinstance(steps[-1], Activation) and steps[-1].name == "sigmoid":
        steps.pop()
    elif isinstance(steps[-1], Activation) and steps[-1].name == "softmax":
        steps.pop()
        if isinstance(steps[-1], Dense):
            kernel, bias = steps[-1].kernel, steps[-1].bias
            steps[-1] = Dense(kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1])
    unknown = [step.name for step in steps if isinstance(step, Activation) and step.name not in ACTIVATIONS]
    if unknown:
        raise _NotClosed(f"the derivative of {unknown[0]} is not written out")
    if not isinstance(steps[-1], Dense):
        raise _NotClosed("it does not end in a dense layer")
    return tuple(steps)


def _layer_steps(layer: keras.layers.Layer) -> list[Step]:
    if isinstance(layer, _SKIPPED):
        return []
    # Exactly these types: a subclass may compute something else.
    kind = type(layer)
    if kind is keras.layers.Dense:
        kernel, *rest = (np.asarray(weight, np.float32) for weight in layer.get_weights())
        bias = rest[0] if rest else np.zeros(kernel.shape[1], np.float32)
        return [Dense(kernel, bias), *_activation_steps(layer)]
    if kind is keras.layers.Activation:
        return _activation_steps(layer)
    if kind is keras.layers.ReLU and not (layer.max_value or layer.negative_slope or layer.threshold):
        return [Activation("relu")]
    if kind is keras.layers.Softmax:
        return [Activation("softmax")]
    if kind is keras.layers.BatchNormalization:
        variance = np.asarray(layer.moving_variance) + layer.epsilon
        gamma = np.asarray(layer.gamma) if layer.scale else 1.0
        beta = np.asarray(layer.beta) if layer.center else 0.0
        factor = gamma / np.sqrt(variance)
        offset = beta - np.asarray(layer.moving_mean) * factor
        return [Scale(np.asarray(factor, np.float32), np.asarray(offset, np.float32))]
    raise _NotClosed(f"it contains {layer.name} ({kind.__name__})")


def _activation_steps(layer: Any) -> list[Step]:
    name = activation_name(layer)
    if not name:
        raise _NotClosed(f"{layer.name} has an activation of its own")
    return [] if name == "linear" else [Activation(name)]
