"""Cut a trained Keras classifier into a backbone (image -> maps) and a `Head` (maps -> logit)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from edge_runtime.bundle import Branch
from edge_runtime.errors import ModelError
from export.head import ACTIVATIONS, Activation, Dense, Head, Scale, Step

_SKIPPED = (keras.layers.Dropout, keras.layers.Identity, keras.layers.GaussianNoise, keras.layers.SpatialDropout2D)


@dataclass(frozen=True)
class SplitModel:
    """A classifier in two parts.

    Attributes:
        full: the Keras model as it was given: image (N, H, W, 3) -> probability.
        backbone: image -> dict of branch maps; shares its layers with ``full``.
        head: the rest.
        input_size: (height, width) in pixels.
    """

    full: keras.Model
    backbone: keras.Model
    head: Head
    input_size: tuple[int, int]


def split_model(model: keras.Model, split_layer: str = "features") -> SplitModel:
    """Split at the output of a top-level layer.

    The head must be a chain: pooling or flattening, then dense, activation, dropout, batch normalisation or
    rescaling layers, ending in one logit; a final sigmoid, or a softmax over two classes, is understood.

    Raises:
        ModelError: no such layer, or a head that is not such a chain; says which layer is in the way.
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
    chain = _chain(model.outputs[0], cut)
    maps, pooled = _branch_maps(cut.output)
    branches = _describe(maps)
    join, rest = ("gap", chain) if pooled else _joining(chain)
    if join == "flatten" and len({(branch.height, branch.width) for branch in branches}) > 1:
        raise ModelError("A flatten head needs one grid for all branches.")
    steps = _steps(rest)
    outputs = {branch.name: tensor for branch, tensor in zip(branches, maps, strict=True)}
    head = Head(branches, "flatten" if join == "flatten" else "gap", steps)
    return SplitModel(model, keras.Model(model.inputs[0], outputs, name="backbone"), head, (shape[1], shape[2]))


def _producer(tensor: Any) -> tuple[keras.layers.Layer, list[Any]]:
    """The layer a symbolic tensor comes from, and what that layer was called on."""
    history = tensor._keras_history
    return history.operation, list(history.operation._inbound_nodes[history.node_index].input_tensors)


def _chain(output: Any, cut: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers after ``cut``, first to last."""
    chain: list[keras.layers.Layer] = []
    tensor = output
    while True:
        layer, inputs = _producer(tensor)
        if layer is cut:
            return chain[::-1]
        if len(inputs) != 1:
            raise ModelError(
                f"The head is not a chain: {layer.name} ({type(layer).__name__}) has {len(inputs)} inputs."
            )
        chain.append(layer)
        tensor = inputs[0]


def _branch_maps(features: Any) -> tuple[list[Any], bool]:
    """The 4-D maps that make up the features, and whether they are pooled already at the cut."""
    layer, inputs = _producer(features)
    parts = inputs if isinstance(layer, keras.layers.Concatenate) else [features]
    maps, pooled = [], []
    for part in parts:
        origin, before = _producer(part)
        is_pool = isinstance(origin, keras.layers.GlobalAveragePooling2D)
        maps.append(before[0] if is_pool else part)
        pooled.append(is_pool)
    for tensor in maps:
        if len(tensor.shape) != 4 or None in tensor.shape[1:]:
            raise ModelError(f"Branch maps must be (N, h, w, C) of fixed size. Received: {tensor.shape}.")
    if len(set(pooled)) > 1:
        raise ModelError("Some branches are pooled before they are joined and some are not.")
    return maps, pooled[0]


def _describe(maps: list[Any]) -> tuple[Branch, ...]:
    names = []
    for tensor in maps:
        layer, inputs = _producer(tensor)
        if isinstance(layer, keras.layers.Identity):
            layer, _ = _producer(inputs[0])
        names.append(re.sub(r"[^a-z0-9_]+", "_", layer.name.lower()).strip("_") or "backbone")
    if len(set(names)) < len(names):
        names = [f"{name}_{i}" for i, name in enumerate(names)]
    return tuple(Branch(name, *map(int, tensor.shape[1:])) for name, tensor in zip(names, maps, strict=True))


def _joining(chain: list[keras.layers.Layer]) -> tuple[str, list[keras.layers.Layer]]:
    for i, layer in enumerate(chain):
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            return "gap", chain[:i] + chain[i + 1 :]
        if isinstance(layer, keras.layers.Flatten):
            return "flatten", chain[:i] + chain[i + 1 :]
        if not isinstance(layer, _SKIPPED):
            break
    raise ModelError("The head must start with global average pooling or flattening.")


def _steps(layers: list[keras.layers.Layer]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for layer in layers:
        steps += _layer_steps(layer)
    last = steps[-1] if steps else None
    if isinstance(last, Activation) and last.name == "sigmoid":
        steps.pop()
    elif isinstance(last, Activation) and last.name == "softmax":
        steps.pop()
        if isinstance(steps[-1], Dense) and steps[-1].kernel.shape[1] == 2:
            # softmax over two scores is a sigmoid of their difference.
            kernel, bias = steps[-1].kernel, steps[-1].bias
            steps[-1] = Dense(kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1])
    if any(isinstance(step, Activation) and step.name not in ACTIVATIONS for step in steps):
        raise ModelError(f"The head uses an activation without a written-out derivative; known: {ACTIVATIONS}.")
    if not steps or not isinstance(steps[-1], Dense) or steps[-1].kernel.shape[1] != 1:
        raise ModelError("The head must end in a dense layer with one logit (or two classes under a softmax).")
    return tuple(steps)


def _layer_steps(layer: keras.layers.Layer) -> list[Step]:
    if isinstance(layer, _SKIPPED):
        return []
    if isinstance(layer, keras.layers.Dense):
        kernel, *rest = (np.asarray(weight, np.float32) for weight in layer.get_weights())
        bias = rest[0] if rest else np.zeros(kernel.shape[1], np.float32)
        return [Dense(kernel, bias), *_activation_steps(layer)]
    if isinstance(layer, keras.layers.Activation):
        return _activation_steps(layer)
    if isinstance(layer, keras.layers.ReLU):
        return [Activation("relu")]
    if isinstance(layer, keras.layers.BatchNormalization):
        variance = np.asarray(layer.moving_variance) + layer.epsilon
        gamma = np.asarray(layer.gamma) if layer.scale else 1.0
        beta = np.asarray(layer.beta) if layer.center else 0.0
        factor = gamma / np.sqrt(variance)
        offset = beta - np.asarray(layer.moving_mean) * factor
        return [Scale(np.asarray(factor, np.float32), np.asarray(offset, np.float32))]
    raise ModelError(f"The head contains {layer.name} ({type(layer).__name__}), which cannot be explained exactly.")


def _activation_steps(layer: Any) -> list[Step]:
    name = getattr(layer.activation, "__name__", str(layer.activation))
    name = {"swish": "silu"}.get(name, name)
    return [] if name == "linear" else [Activation(name)]
