"""Compact networks that can be taught, and how each is cut for teaching.

The first two are ReLU6 networks without squeeze-excite, which quantize well as they are. EfficientNetB0 needs the
accuracy guard for int8, as it does in the fused model.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras

from edge_runtime.errors import UsageError
from train.model import FusionModel


@dataclass(frozen=True)
class Student:
    """One row.

    Attributes:
        backbone: key of `train.backbones.BACKBONES`.
        input_size: pixels, by default.
        cut: layer up to which pretrained weights stay as they are; everything passes through it.
    """

    backbone: str
    input_size: int
    cut: str


STUDENTS = {
    "efficientnet-lite0": Student("efficientnetlite0", 192, "block10_add"),
    "mobilenetv2": Student("mobilenetv2", 192, "block_12_add"),
    "efficientnetb0": Student("efficientnetb0", 192, "block5c_add"),
}


def student(name: str) -> Student:
    """The row of that name, or `UsageError`."""
    if name not in STUDENTS:
        raise UsageError(f"--student is one of {', '.join(STUDENTS)}. Received: {name!r}.")
    return STUDENTS[name]


def cut_branch(model: FusionModel, cut: str | None) -> tuple[keras.Model, keras.Model]:
    """The only branch of a model in two parts that share its layers.

    Args:
        model: of one backbone.
        cut: name of the last layer of the lower part; None: the backbone's input, so that all of it is upper.

    Returns:
        lower: image (N, H, W, 3) -> activations at the cut; upper: those -> maps (N, h, w, C).
    """
    ((name, backbone),) = model.backbones.items()
    x = image = keras.Input(model.full.input_shape[1:], name="image")
    for layer in model.branches[name].layers[1:]:
        if layer is backbone:
            break
        x = layer(x)
    if cut is None:
        return keras.Model(image, x, name="lower"), backbone
    middle = backbone.get_layer(cut).output
    lower = keras.Model(backbone.inputs[0], middle, name=f"{name}_lower")
    upper = keras.Model(middle, backbone.outputs[0], name=f"{name}_upper")
    return keras.Model(image, lower(x), name="lower"), upper
