"""Fine-tuning without running the frozen part again: a model cut below its first trainable layer.

The layers below the cut are frozen. Their output for an image or an augmented copy is computed once and cached
(`train.features.cache`). Only the *tail* – the last blocks and the head – runs in every epoch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import keras
import numpy as np

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.models.fusion import FusionModel, backbone_input


@dataclass(frozen=True)
class Tail:
    """A model in two parts that share their layers with the whole one.

    Attributes:
        trunks: per backbone, image -> maps at the cut, or the finished features of a backbone that stays frozen.
        model: outputs of the trunks, in order -> probability (N, 1); training it trains the whole model.
        logit: outputs of the trunks, in order -> logit (N, 1).
    """

    trunks: dict[str, keras.Model]
    model: keras.Model
    logit: keras.Model

    @property
    def row_bytes(self) -> int:
        """Bytes of one image's cached values, float32."""
        return sum(4 * int(np.prod(trunk.output.shape[1:])) for trunk in self.trunks.values())


def unfreeze(model: FusionModel, layers: str) -> None:
    """Make chosen backbone layers trainable; batch normalisation never is.

    Args:
        model: changed in place.
        layers: regular expression that must match all of ``<backbone>/<layer>``.

    Raises:
        UsageError: the expression is invalid or matches no layer with weights.
    """
    try:
        pattern = re.compile(layers)
    except re.error as error:
        raise UsageError(f"--fine-tune {layers!r} is not a regular expression: {error}") from error
    matched = 0
    for backbone in model.backbones.values():
        backbone.trainable = True
        for layer in backbone.layers:
            normalises = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = not normalises and pattern.fullmatch(f"{backbone.name}/{layer.name}") is not None
            matched += layer.trainable and bool(layer.weights)
    if not matched:
        raise UsageError(f"--fine-tune {layers!r} matches no layer; names look like vgg19/block5_conv4.")


def cut(model: FusionModel) -> Tail:
    """Cut each backbone below its first trainable layer; a frozen backbone is not cut."""
    image = model.full.input
    trunks, inputs, features = {}, [], []
    for name, backbone in model.backbones.items():
        pool = model.branches[name].layers[-1]
        at = _cut_point(backbone)
        if at is None:
            trunk = model.branches[name]
            entry = keras.Input(trunk.output.shape[1:], name=f"{name}_cut")
            value = entry
        else:
            lower = keras.Model(backbone.input, at, name=f"{name}_below")
            upper = keras.Model(at, backbone.output)
            trunk = keras.Model(image, lower(backbone_input(model.full, name)))
            entry = keras.Input(at.shape[1:], name=f"{name}_cut")
            value = pool(upper(entry))
        trunks[name] = trunk
        inputs.append(entry)
        features.append(value)
    joined = features if len(features) > 1 else features[0]
    probability, logit = model.head(joined), model.head_logit(joined)
    return Tail(trunks, keras.Model(inputs, probability, name="tail"), keras.Model(inputs, logit))


def _cut_point(backbone: keras.Model) -> keras.KerasTensor | None:
    """The last tensor that lies below all trainable layers and that all paths pass; None without such layers."""
    trainable = [i for i, layer in enumerate(backbone.layers) if layer.trainable and layer.weights]
    if not trainable:
        return None
    for layer in reversed(backbone.layers[: trainable[0]]):
        if isinstance(layer.output, keras.KerasTensor) and _separates(layer.output, backbone):
            return layer.output
    return backbone.input


def _separates(tensor: keras.KerasTensor, backbone: keras.Model) -> bool:
    """Whether every path from the input to the output passes a tensor."""
    seen: set[int] = set()
    waiting = [backbone.output]
    while waiting:
        current = waiting.pop()
        if current is tensor or id(current) in seen:
            continue
        seen.add(id(current))
        operation, node_index, _ = current._keras_history
        arguments = operation._inbound_nodes[node_index].input_tensors
        if not arguments:
            return False  # the image, reached without the tensor
        waiting.extend(arguments)
    return True
