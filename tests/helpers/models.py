"""Small models and what they take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 64


RUN_BACKBONES = ("mobilenetv2", "efficientnetb0")


def model_inputs(paths: list[Path], size: int = SIZE) -> np.ndarray:
    """Model inputs float32 (N, size, size, 3)."""
    from sonoedge.edge_runtime.model.classifier import preprocess_file

    return np.concatenate([preprocess_file(path, (size, size)) for path in paths])


def small_model(
    head: Callable[[Any], Any] | None = None,
    *,
    grids: tuple[int, ...] = (2, 2),
    join: str = "gap",
    size: int = 32,
) -> Any:
    """An untrained classifier of a few thousand weights in the form that `export` reads.

    Args:
        head: from the joined vector (N, C) to the output; default Dense(8, relu), Dropout, logit, sigmoid.
        grids: stride of the last convolution of each branch, ``branch_0``, ``branch_1``, …; all equal: maps are
            concatenated as ``features``; else each is pooled first.
        join: ``gap`` or ``flatten``.
        size: pixels.
    """
    import keras
    from keras import layers

    image = keras.Input((size, size, 3), name="image")
    scaled = layers.Rescaling(1 / 127.5, -1.0)(image)
    maps = []
    for number, stride in enumerate(grids):
        stem = layers.Conv2D(6 + number, 3, strides=2, padding="same", activation="swish")(scaled)
        name = f"branch_{number}"
        maps.append(layers.Conv2D(5 + 2 * number, 3, stride, padding="same", activation="relu", name=name)(stem))
    if len(set(grids)) > 1:
        vector = layers.Concatenate(name="features")([layers.GlobalAveragePooling2D()(m) for m in maps])
    else:
        joined = layers.Concatenate(name="features")(maps) if len(maps) > 1 else maps[0]
        if len(maps) == 1:
            joined = layers.Identity(name="features")(joined)
        vector = (layers.GlobalAveragePooling2D() if join == "gap" else layers.Flatten())(joined)
    return keras.Model(image, (head or default_head)(vector), name="small")


def default_head(vector: Any) -> Any:
    """Dense(8, relu), dropout, ``logit``, ``probability``."""
    from keras import layers

    hidden = layers.Dropout(0.5)(layers.Dense(8, activation="relu", name="fc1")(vector))
    logit = layers.Dense(1, name="logit", bias_initializer="random_normal")(hidden)
    return layers.Activation("sigmoid", name="probability")(logit)
