"""Convolutions with a fraction of their multiply-adds: a narrow 3 x 3 convolution, then a 1 x 1 one.

A 3 x 3 convolution of C outputs becomes one of r < C outputs and a 1 x 1 convolution back to C. The bottleneck is
found in closed form, layer after layer, from what training images give: the r directions, and the map into them,
that bring the slim layer's outputs closest to the original layer's, *given what the slim layers before it let
through* (reduced-rank regression; the asymmetric reconstruction of Zhang et al., TPAMI 2016, without its non-linear
part). So a layer also mends errors of the layers before it.

Every layer keeps the same share of its multiply-adds, and its 3 x 3 window: one that happens to be easy, such as an
identity, brings no gain.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from scipy.fft import dct
from tqdm import tqdm

from train.least_squares import Float, ridge

Maps = NDArray[np.float32]

_CHAIN = (keras.layers.InputLayer, keras.layers.Conv2D, keras.layers.MaxPooling2D)
_MULTIPLE = 8  # of output channels: what the vector units of small processors work on at a time
_RIDGE = 1e-4
_BATCH = 4


def is_chain(model: keras.Model) -> bool:
    """Whether a backbone is a plain chain of convolutions and pooling, such as VGG, that can be made slim."""
    return all(isinstance(layer, _CHAIN) for layer in model.layers) and bool(_factored(model))


def rank_of(inputs: int, outputs: int, divisor: float) -> int:
    """Width of the bottleneck of a 3 x 3 convolution that leaves about 1 / divisor of its multiply-adds."""
    exact = 9 * inputs * outputs / (divisor * (9 * inputs + outputs))
    return min(outputs, max(_MULTIPLE, int(exact / _MULTIPLE + 0.5) * _MULTIPLE))


def multiply_adds(model: keras.Model) -> int:
    """Of the convolutions of a chain, for one image."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    return sum(int(np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3])) for layer in layers)


def slim_chain(chain: keras.Model, images: Maps, divisor: float, *, progress: bool = False) -> keras.Model:
    """A chain of convolutions with every 3 x 3 one in two parts, except the first.

    Args:
        chain: see `is_chain`.
        images: float32 (N, H, W, 3), as the chain sees them.
        divisor: of the multiply-adds, layer by layer.
    """
    value = image = keras.Input(chain.input_shape[1:])
    truth = seen = images
    chosen = _factored(chain)
    for layer in tqdm(chain.layers[1:], desc="layers", disable=not progress):
        parts = _factor(layer, truth, seen, divisor) if layer in chosen else (layer,)
        for part in parts:
            value = part(value)
        untouched = seen is truth and layer not in chosen
        truth = _mapped((layer,), truth)
        seen = truth if untouched else _mapped(parts, seen)
    return keras.Model(image, value, name=chain.name)


def _factored(chain: keras.Model) -> list[keras.layers.Conv2D]:
    convolutions = [layer for layer in chain.layers if isinstance(layer, keras.layers.Conv2D)]
    return [layer for layer in convolutions[1:] if layer.kernel_size == (3, 3) and layer.strides == (1, 1)]


def _factor(
    layer: keras.layers.Conv2D, truth: Maps, seen: Maps, divisor: float
) -> tuple[keras.layers.Conv2D, keras.layers.Conv2D]:
    """Both parts of a layer that is given ``seen`` and should give what the layer gives for ``truth``."""
    kernel, bias = layer.get_weights()
    rank = rank_of(kernel.shape[2], kernel.shape[3], divisor)
    narrow = keras.layers.Conv2D(rank, 3, padding=layer.padding, use_bias=False, name=f"{layer.name}_narrow")
    wide = keras.layers.Conv2D(kernel.shape[3], 1, activation=layer.activation, name=layer.name)
    mean, wanted, gram, cross = _moments(layer, kernel, truth, seen)
    corrected = ridge(gram, cross, np.eye(len(gram)), _RIDGE)
    directions = np.linalg.eigh(corrected.T @ gram @ corrected)[1][:, ::-1][:, :rank]
    # Turned within the bottleneck so that all its channels vary alike: principal components would not, and int8
    # gives the weak ones few of its levels.
    directions = directions @ dct(np.eye(rank), norm="ortho")
    narrow.build((None, None, None, kernel.shape[2]))
    wide.build((None, None, None, rank))
    into = corrected @ directions
    narrow.set_weights([kernel @ into])
    # What lies outside the directions stays at its mean.
    wide.set_weights([directions.T[None, None], wanted + bias - mean @ into @ directions.T])
    return narrow, wide


def _moments(
    layer: keras.layers.Conv2D, kernel: Maps, truth: Maps, seen: Maps
) -> tuple[Float, Float, Float, Float]:
    """Means (C,) of the responses to ``seen`` and to ``truth``, and x^T x, x^T y of both centred, by position."""
    count, width = 0, kernel.shape[3]
    sums, gram, cross = np.zeros((2, width)), np.zeros((width, width)), np.zeros((width, width))
    for start in range(0, len(seen), _BATCH):
        y, x = (
            np.asarray(ops.conv(part[start : start + _BATCH], kernel, padding=layer.padding)).reshape(-1, width)
            for part in (truth, seen)
        )
        count += len(x)
        sums += x.sum(axis=0, dtype=np.float64), y.sum(axis=0, dtype=np.float64)
        gram += x.T @ x
        cross += x.T @ y
    mean, wanted = sums / count
    return mean, wanted, gram - count * np.outer(mean, mean), cross - count * np.outer(mean, wanted)


def _mapped(layers: tuple[keras.layers.Layer, ...], maps: Maps) -> Maps:
    parts = []
    for start in range(0, len(maps), _BATCH):
        value: Any = maps[start : start + _BATCH]
        for layer in layers:
            value = layer(value)
        parts.append(np.asarray(value))
    return np.concatenate(parts)
