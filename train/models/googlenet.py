"""GoogLeNet (Inception v1) with BVLC's ImageNet weights, which Keras does not have.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, table 1; padding, order and normalisation are those of
the model that BVLC trained with Caffe ("bvlc_googlenet"). The auxiliary classifiers are left out.

Local response normalisation, ``x / (1 + 1e-4 / 5 * sum of x^2 over 5 channels) ** 0.75``, is written with operators
that every runtime has: the sum over channels is a fixed 1 x 1 convolution, the power two square roots.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.train.models.keras_files import cache_folder

WEIGHTS_FILE = "googlenet_bvlc.npz"
"""``<layer of Caffe>/w`` (out, height, width, in) and ``<layer>/b`` (out,) for every convolution."""
_NEIGHBOURS, _ALPHA = 5, 1e-4
_INCEPTIONS = {
    # 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, behind the pooling
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_POOLED = ("3b", "4e")


def GoogLeNet(
    *, include_top: bool, weights: str | None, input_shape: tuple[int, int, int], name: str
) -> keras.Model:
    """The network without its classifier: float32 (N, H, W, 3), BGR less its mean -> (N, h, w, 1024).

    Args:
        include_top: must be False.
        weights: ``imagenet`` (`WEIGHTS_FILE` in Keras' cache), the path of such a file, or None.
        input_shape: (H, W, 3).
        name: of the model.

    Raises:
        ModelError: the file is not there, or does not fit.
        ValueError: ``include_top`` is true.
    """
    if include_top:
        raise ValueError("GoogLeNet comes without its classifier only.")
    image = keras.Input(input_shape)
    x = _convolution(layers.ZeroPadding2D(3)(image), 64, 7, "conv1/7x7_s2", stride=2, padding="valid")
    x = _normalised(layers.MaxPooling2D(3, 2, "same", name="pool1")(x), "norm1")
    x = _convolution(_convolution(x, 64, 1, "conv2/3x3_reduce"), 192, 3, "conv2/3x3")
    x = layers.MaxPooling2D(3, 2, "same", name="pool2")(_normalised(x, "norm2"))
    for block, widths in _INCEPTIONS.items():
        x = _inception(x, f"inception_{block}", widths)
        if block in _POOLED:
            x = layers.MaxPooling2D(3, 2, "same", name=f"pool_{block}")(x)
    model = keras.Model(image, x, name=name)
    _set_fixed(model)
    if weights is not None:
        set_weights(model, cache_folder() / WEIGHTS_FILE if weights == "imagenet" else Path(weights))
    return model


def set_weights(model: keras.Model, path: Path) -> None:
    """Set all convolutions of a model from `GoogLeNet` from a file.

    Raises:
        ModelError: the file is not there, is no such file, or has other shapes.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            for layer in model.layers:
                if type(layer) is layers.Conv2D and layer.trainable:
                    caffe = _caffe(layer.name)
                    kernel, bias = file[f"{caffe}/w"], file[f"{caffe}/b"]
                    layer.set_weights([kernel.transpose(1, 2, 3, 0).astype(np.float32), bias.astype(np.float32)])
    except FileNotFoundError:
        raise ModelError(
            f"No such weights file: {path}. It holds BVLC's GoogLeNet as NumPy arrays, and Keras has none to "
            f"download. Give the folder that holds {WEIGHTS_FILE} with --weights DIR."
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} does not fit GoogLeNet: {str(error).splitlines()[0]}") from error


def _inception(x: Any, name: str, widths: tuple[int, ...]) -> Any:
    """Four ways through a block, joined: 1 x 1, 3 x 3, 5 x 5, and pooling."""
    one, three_reduced, three, five_reduced, five, pooled = widths
    pool = layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x)
    parts = [
        _convolution(x, one, 1, f"{name}/1x1"),
        _convolution(_convolution(x, three_reduced, 1, f"{name}/3x3_reduce"), three, 3, f"{name}/3x3"),
        _convolution(_convolution(x, five_reduced, 1, f"{name}/5x5_reduce"), five, 5, f"{name}/5x5"),
        _convolution(pool, pooled, 1, f"{name}/pool_proj"),
    ]
    return layers.Concatenate(name=name)(parts)


def _convolution(x: Any, width: int, size: int, caffe: str, *, stride: int = 1, padding: str = "same") -> Any:
    name = caffe.replace("/", "__")  # Keras allows no slash
    return layers.Conv2D(width, size, stride, padding, activation="relu", name=name)(x)


def _caffe(name: str) -> str:
    return name.replace("__", "/")


def _normalised(x: Any, name: str) -> Any:
    """Local response normalisation; `_set_fixed` sets its sum."""
    squares = layers.Multiply(name=f"{name}_squares")([x, x])
    total = layers.Conv2D(x.shape[-1], 1, trainable=False, name=f"{name}_sum")(squares)
    root = keras.ops.rsqrt(total)
    return layers.Multiply(name=name)([x, root, keras.ops.sqrt(root)])


def _set_fixed(model: keras.Model) -> None:
    """The sums of `_normalised`: each channel's neighbours, times alpha / 5, and 1 as the bias."""
    for layer in model.layers:
        if layer.name.endswith("_sum"):
            channels = int(layer.bias.shape[0])
            layer.set_weights([_neighbours(channels)[None, None], np.ones(channels, np.float32)])


def _neighbours(channels: int) -> NDArray[np.float32]:
    distance = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
    return np.where(distance <= _NEIGHBOURS // 2, _ALPHA / _NEIGHBOURS, 0.0).astype(np.float32)
