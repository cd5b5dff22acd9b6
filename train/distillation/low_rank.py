"""Convolutions with a fraction of their multiply-adds: a narrow 3 x 3 convolution, then a 1 x 1 one.

A 3 x 3 convolution of C outputs becomes one of r < C outputs and a 1 x 1 convolution back to C. The bottleneck is
found in closed form, layer after layer, on training images. It is the r directions, and the map into them, that
bring the slim layer's outputs closest to the original layer's, *given the outputs of the slim layers before it*
(reduced-rank regression; the asymmetric reconstruction of Zhang et al., TPAMI 2016, without its non-linear part).
So a layer also corrects errors of the layers before it.

Every layer keeps the same share of its multiply-adds, and its 3 x 3 window. A layer that happens to be easy, such
as an identity, gets no smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from scipy.fft import dct
from tqdm import tqdm

from sonoedge.train.distillation.least_squares import Float, ridge

Maps = NDArray[np.float32]

_CHAIN = (keras.layers.InputLayer, keras.layers.Conv2D, keras.layers.MaxPooling2D)
_MULTIPLE = 8  # of output channels: what the vector units of small processors work on at a time
_RIDGE = 1e-4
_BATCH = 4


def is_chain(model: keras.Model) -> bool:
    """Whether a backbone is a plain chain of convolutions and pooling, such as VGG, that can be made slim."""
    return all(isinstance(layer, _CHAIN) for layer in model.layers) and bool(_factored(model))


def rank_of(inputs: int, outputs: int, divisor: float) -> int:
    """Width of the bottleneck that leaves about 1 / divisor of a 3 x 3 convolution's multiply-adds.

    It is a multiple of 8 and at most ``outputs``. ``inputs`` and ``outputs`` are the channels of the convolution.
    """
    exact = 9 * inputs * outputs / (divisor * (9 * inputs + outputs))
    return min(outputs, max(_MULTIPLE, int(exact / _MULTIPLE + 0.5) * _MULTIPLE))


def multiply_adds(model: keras.Model) -> int:
    """Multiply-adds of the convolutions of a chain, for one image."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    return sum(int(np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3])) for layer in layers)


def slim_chain(chain: keras.Model, images: Maps, divisor: float, *, progress: bool = False) -> keras.Model:
    """Replace every 3 x 3 convolution of a chain, except the first, by a narrow one and a 1 x 1 one.

    Args:
        chain: see `is_chain`; stays as it is.
        images: float32 (N, H, W, 3), as the chain sees them.
        divisor: by which the multiply-adds of each of these layers are divided.
        progress: show a bar.

    Returns:
        The slim chain.
    """
    value = image = keras.Input(chain.input_shape[1:])
    # Layer by layer, the output of the chain and that of the slim one.
    truth = seen = images
    chosen = _factored(chain)
    for layer in tqdm(chain.layers[1:], desc="layers", disable=not progress):
        if layer not in chosen:
            value = layer(value)
            truth, seen = _both(layer, truth, seen)
            continue
        kernel, bias = layer.get_weights()
        wanted, given = _both(partial(ops.conv, kernel=kernel, padding=layer.padding), truth, seen)
        into, out, offset = bottleneck(given, wanted, rank_of(kernel.shape[2], kernel.shape[3], divisor))
        narrow = keras.layers.Conv2D(
            into.shape[1], 3, padding=layer.padding, use_bias=False, name=f"{layer.name}_narrow"
        )
        wide = keras.layers.Conv2D(kernel.shape[3], 1, activation=layer.activation, name=layer.name)
        value = wide(narrow(value))
        narrow.set_weights([kernel @ into])
        wide.set_weights([out[None, None], offset + bias])
        truth = np.asarray(layer.activation(wanted + bias))
        # The narrow part is linear: its convolution is that of the whole kernel, of which `given` is the result.
        seen = np.asarray(layer.activation(given @ into @ out + (offset + bias)))
    return keras.Model(image, value, name=chain.name)


def bottleneck(given: Maps, wanted: Maps, rank: int) -> tuple[Maps, Maps, Maps]:
    """The affine map of a given rank between rows with the least squared error (reduced-rank regression).

    Args:
        given, wanted: float32 (..., C).
        rank: at most C.

    Returns:
        ``into`` (C, rank), ``out`` (rank, C) and ``offset`` (C,): wanted is about given @ into @ out + offset.
    """
    mean, target, gram, cross = _moments(given, wanted)
    whole = ridge(gram, cross, np.eye(len(gram)), _RIDGE)
    directions = np.linalg.eigh(whole.T @ gram @ whole)[1][:, ::-1][:, :rank]
    # Turned within the bottleneck so that all its channels vary alike: principal components would not, and int8
    # gives the weak ones few of its levels.
    directions = directions @ dct(np.eye(rank), norm="ortho")
    into = whole @ directions
    # What lies outside the directions stays at its mean.
    offset = target - mean @ into @ directions.T
    return into.astype(np.float32), directions.T.astype(np.float32), offset.astype(np.float32)


def _factored(chain: keras.Model) -> list[keras.layers.Conv2D]:
    convolutions = [layer for layer in chain.layers if isinstance(layer, keras.layers.Conv2D)]
    return [layer for layer in convolutions[1:] if layer.kernel_size == (3, 3) and layer.strides == (1, 1)]


def _moments(given: Maps, wanted: Maps) -> tuple[Float, Float, Float, Float]:
    """Means (C,) of both, and x^T x, x^T y (C, C) of both centred, over all rows."""
    width = given.shape[-1]
    x_sum, y_sum, gram, cross = np.zeros(width), np.zeros(width), np.zeros((width, width)), np.zeros((width, width))
    for start in range(0, len(given), _BATCH):
        x, y = (part[start : start + _BATCH].reshape(-1, width) for part in (given, wanted))
        x_sum += x.sum(axis=0, dtype=np.float64)
        y_sum += y.sum(axis=0, dtype=np.float64)
        gram += x.T @ x
        cross += x.T @ y
    count = given.size // width
    mean, target = x_sum / count, y_sum / count
    return mean, target, gram - count * np.outer(mean, mean), cross - count * np.outer(mean, target)


def _both(function: Callable[[Maps], Any], truth: Maps, seen: Maps) -> tuple[Maps, Maps]:
    """A function of both, batch by batch; evaluated once if they are the same array."""

    def mapped(maps: Maps) -> Maps:
        parts = [np.asarray(function(maps[start : start + _BATCH])) for start in range(0, len(maps), _BATCH)]
        return np.concatenate(parts)

    first = mapped(truth)
    return first, (first if seen is truth else mapped(seen))
