"""Compact networks that can be taught: how each is cut for teaching, and how it is put together afterwards.

A compact network at fewer pixels ends in a coarse grid, 6 x 6 at 192. A student therefore uses two maps: that of
its last layer, stretched to the grid of an earlier layer, and that of the earlier layer. This is the lateral
connection of a feature pyramid (Lin et al., CVPR 2017). The grid is twice as fine, for hardly any arithmetic.

The first two are ReLU6 networks without squeeze-excite, which quantize well as they are. EfficientNetB0 needs the
accuracy guard for int8, as it does in the fused model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.models.backbones import build_branch


@dataclass(frozen=True)
class Student:
    """One row.

    Attributes:
        backbone: key of `train.models.backbones.BACKBONES`.
        input_size: height and width in pixels, by default.
        cut: the earlier layer. Pretrained weights up to it stay as they are; all paths pass through it.
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
    """The row of that name.

    Raises:
        UsageError: an unknown name.
    """
    if name not in STUDENTS:
        raise UsageError(f"--student is one of {', '.join(STUDENTS)}. Received: {name!r}.")
    return STUDENTS[name]


@dataclass(frozen=True)
class StudentModel:
    """A student before its head; the parts share their layers.

    Attributes:
        scaled: image (N, H, W, 3) RGB 0–255 -> input of the backbone.
        backbone: its input -> the last map and the map at the cut, each on its own grid.
        lower: the part that is not trained: image -> map at the cut, or -> input of the backbone if all of it is
            trained.
        upper: the part that is trained: output of ``lower`` -> both maps (N, h, w, C) on the grid of the cut, the
            last one stretched, joined on channels.
    """

    scaled: keras.Model
    backbone: keras.Model
    lower: keras.Model
    upper: keras.Model


def build_student(row: Student, *, weights: str, input_size: tuple[int, int]) -> StudentModel:
    """Build a student before its head.

    Args:
        row: one of `STUDENTS`.
        weights: see `train.models.backbones.build_branch`; unless ``none``, only the layers after the cut are
            trained.
        input_size: (height, width) in pixels.

    Raises:
        MissingExtraError, ModelError: the weights cannot be had; see `train.models.backbones.build_branch`.
    """
    image = keras.Input((*input_size, 3), name="image")
    network, maps = build_branch(row.backbone, image, weights=weights)
    x = image
    for layer in keras.Model(image, maps).layers[1:-1]:
        x = layer(x)
    scaled = keras.Model(image, x, name="scaled")
    given, last, middle = network.inputs[0], network.outputs[0], network.get_layer(row.cut).output
    if weights == "none":
        lower, start = scaled, given
    else:
        lower, start = keras.Model(image, keras.Model(given, middle, name="below")(x), name="lower"), middle
    maps = keras.layers.Concatenate(name="maps")([_stretch(last, middle), middle])
    upper = keras.Model(start, maps, name="upper")
    return StudentModel(scaled, keras.Model(given, [last, middle], name=row.backbone), lower, upper)


def with_head(student: StudentModel, head: keras.Model, directions: NDArray[np.float32]) -> keras.Model:
    """Put a whole student together, image -> probability, with its first dense layer stored as two thin ones.

    Pooling and a dense layer commute. So the layer's projection onto the directions becomes a 1 x 1 convolution of
    each of the two maps; then the last map is stretched, and both are added: R channels in all.

    Args:
        student: as it was taught.
        head: the output of its first dense layer varies only along ``directions`` (see
            `train.distillation.objective.thin_directions`).
        directions: orthonormal (U, R).
    """
    layers = head.layers
    number = next(i for i, layer in enumerate(layers) if isinstance(layer, keras.layers.Dense))
    first = layers[number]
    kernel, bias = first.get_weights()
    last, middle = student.backbone.outputs
    upper, lower = np.split(kernel @ directions, [last.shape[-1]])
    top, lateral = _projection("top", last, upper), _projection("lateral", middle, lower)
    merged = keras.layers.Add(name="merged")([_stretch(top, middle), lateral])
    backbone = keras.Model(student.backbone.inputs[0], merged, name=student.backbone.name)
    image = student.scaled.inputs[0]
    features = keras.layers.Identity(name="features")(backbone(student.scaled.outputs[0]))
    value = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    wide = keras.layers.Dense(first.units, activation=first.activation, name=first.name)
    value = wide(value)
    wide.set_weights([directions.T, bias])
    for layer in layers[number + 1 :]:
        value = layer(value)
    return keras.Model(image, value, name="sonoedge")


def _projection(name: str, maps: Any, kernel: NDArray[np.float32]) -> Any:
    layer = keras.layers.Conv2D(kernel.shape[1], 1, use_bias=False, name=name)
    value = layer(maps)
    layer.set_weights([kernel[None, None]])
    return value


def _stretch(maps: Any, like: Any) -> Any:
    """Maps on the grid of other maps, bilinear."""
    return keras.layers.Resizing(*like.shape[1:3], interpolation="bilinear", name="stretched")(maps)
