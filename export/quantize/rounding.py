"""Round int8 weights so that a layer's results stay, not so that each weight stays.

To the nearest step every weight is off by up to half a step. In a depthwise network few weights make a value: nine
in a depthwise filter. Their errors do not average out, and the mean of a channel moves. Here weights are rounded
down or up so that the error of the *results* on calibration images is small, as in "Up or Down?" (Nagel et al.,
ICML 2020), by coordinate descent on the exact quadratic (as in "Optimal Brain Compression", Frantar and Alistarh,
NeurIPS 2022)::

    minimise  e C e'    e: errors of one filter's weights, C: covariance of the filter's inputs
    then      bias -= e m    m: mean of the filter's inputs

The second line removes the mean error of a channel; so the first one counts only what varies about it.

The result is a float model whose weights lie on the int8 grid already: any quantizer with one symmetric scale per
output channel, set by the largest weight, stores exactly them. So the largest weight of a filter never moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from sonoedge.export.convert.graphs import pack_tflite, parse_tflite, tflite_constant, tflite_name, tflite_text
from sonoedge.export.quantize.recorders import TFLiteRecorder

ROUNDING_VERSION = "1"
"""Raise it when the same model and images give other weights than before: cached ones are then not used."""
POSITIONS = 64
"""Places of every map at which a filter's inputs are looked at, per image."""
LARGEST_FILTER = 1152
"""Weights of a filter, at most; in larger ones the errors average out, and the covariance would take long."""
_STEPS = 127
_SWEEPS = 4
_DAMPING = 1e-3
Float = NDArray[np.float32]
Double = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """A convolution's kernel, in the flatbuffer's shape, and its bias (O,), float32."""

    kernel: Float
    bias: Float


def round_weights(model: bytes, inputs: Iterable[Float]) -> dict[str, Weights]:
    """Rounded weights of a backbone's convolutions by operator name.

    Convolutions whose filters have more than `LARGEST_FILTER` weights, or share them with another, are left out.

    Args:
        model: float32 flatbuffer.
        inputs: calibration images, float32 (1, height, width, 3), 0–255.

    Raises:
        ModelError: the interpreter refuses the model.
    """
    recorder = TFLiteRecorder(model)
    layers = _layers(model, recorder.names)
    for number, image in enumerate(inputs):
        values = recorder.values(image)
        rng = np.random.default_rng(number)
        for layer in layers.values():
            layer.look(values[layer.source], rng)
        del values
    return {name: layer.rounded() for name, layer in layers.items() if layer.seen}


def with_weights(model: bytes, weights: Mapping[str, Weights]) -> bytes:
    """The flatbuffer with other weights for the named operators; names that it does not have are left out."""
    parsed = parse_tflite(model)
    graph = parsed.subgraphs[0]
    for operator in graph.operators:
        own = weights.get(tflite_name(graph, operator))
        if own is None:
            continue
        for place, array in ((1, own.kernel), (2, own.bias)):
            tensor = graph.tensors[int(operator.inputs[place])]
            if sum(other.buffer == tensor.buffer for other in graph.tensors) > 1:
                # The converter stores equal constants once.
                parsed.buffers.append(schema.BufferT())
                tensor.buffer = len(parsed.buffers) - 1
            parsed.buffers[tensor.buffer].data = np.frombuffer(array.tobytes(), np.uint8)
    return pack_tflite(parsed)


def round_filters(weights: Double, mean: Double, covariance: Double) -> tuple[Double, Double]:
    """Round filters to 255 steps, symmetric, one scale for each.

    Args:
        weights: (O, K).
        mean: of the inputs, (K,) or one for each filter, (O, K).
        covariance: of the inputs, (K, K) or (O, K, K).

    Returns:
        The rounded weights (O, K), and what must be added to the bias (O,).
    """
    own = covariance.ndim == 3
    diagonal = np.einsum("...kk->...k", covariance)
    covariance = covariance + np.eye(weights.shape[1]) * (_DAMPING * diagonal.mean(axis=-1)[..., None, None] + 1e-9)
    scale = np.maximum(np.abs(weights).max(axis=1), 1e-12) / _STEPS
    steps = np.clip(np.rint(weights / scale[:, None]), -_STEPS, _STEPS)
    largest = np.abs(weights).argmax(axis=1)
    errors = steps * scale[:, None] - weights
    gradient = np.einsum("ok,okj->oj", errors, covariance) if own else errors @ covariance
    for _ in range(_SWEEPS):
        moved = False
        for k in range(weights.shape[1]):
            curvature = covariance[:, k, k] if own else covariance[k, k]
            step = -np.sign(gradient[:, k])
            gain = scale * (2 * step * gradient[:, k] + scale * curvature)
            rows = np.flatnonzero((gain < 0) & (np.abs(steps[:, k] + step) <= _STEPS) & (largest != k))
            change = (step * scale)[rows, None]
            steps[rows, k] += step[rows]
            errors[rows, k] += change[:, 0]
            gradient[rows] += change * (covariance[rows, k] if own else covariance[k])
            moved |= rows.size > 0
        if not moved:
            break
    return steps * scale[:, None], -(errors * mean).sum(axis=1)


class _Layer:
    """A convolution, and the moments of its filters' inputs so far."""

    def __init__(self, kernel: Float, bias: Float, source: int, shape: tuple[int, ...], *, depthwise: bool) -> None:
        self.source, self.seen = source, 0
        self._kernel, self._bias, self._shape, self._depthwise = kernel, bias, shape, depthwise
        self._total: Double | float = 0.0
        self._squares: Double | float = 0.0

    def look(self, values: Float, rng: np.random.Generator) -> None:
        """Add the inputs at some places of one image; at the rim filters read padding and are not looked at."""
        height, width = self._kernel.shape[1:3]
        maps = values.reshape(self._shape[1:])
        rows, columns = maps.shape[0] - height + 1, maps.shape[1] - width + 1
        if rows < 1 or columns < 1:
            return
        places = rng.choice(rows * columns, min(POSITIONS, rows * columns), replace=False)
        taps = [maps[places // columns + i, places % columns + j] for i in range(height) for j in range(width)]
        patches = np.stack(taps, axis=1).astype(np.float64)  # (places, taps, channels)
        patches = patches.transpose(2, 0, 1) if self._depthwise else patches.reshape(len(places), -1)
        self._total = self._total + patches.sum(axis=-2)
        self._squares = self._squares + np.swapaxes(patches, -1, -2) @ patches
        self.seen += len(places)

    def rounded(self) -> Weights:
        """The layer's weights, rounded for the inputs that were seen."""
        mean = np.asarray(self._total) / self.seen
        covariance = np.asarray(self._squares) / self.seen - mean[..., :, None] * mean[..., None, :]
        kernel = self._kernel.astype(np.float64)
        filters = kernel.reshape(-1, kernel.shape[3]).T if self._depthwise else kernel.reshape(len(kernel), -1)
        rounded, shift = round_filters(filters, mean, covariance)
        rounded = rounded.T if self._depthwise else rounded
        return Weights(rounded.reshape(kernel.shape).astype(np.float32), (self._bias + shift).astype(np.float32))


def _layers(model: bytes, recorded: tuple[str, ...]) -> dict[str, _Layer]:
    """Convolutions whose weights can be rounded, by operator name."""
    parsed = parse_tflite(model)
    graph = parsed.subgraphs[0]
    kinds = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
    readers = [int(i) for operator in graph.operators for i in operator.inputs]
    found = {}
    for operator in graph.operators:
        kind = parsed.operatorCodes[operator.opcodeIndex].builtinCode
        if kind not in kinds or len(operator.inputs) < 3:
            continue
        source, kernel, bias = (int(i) for i in operator.inputs)
        name = tflite_text(graph.tensors[source].name)
        depthwise = kind == schema.BuiltinOperator.DEPTHWISE_CONV_2D
        values = tflite_constant(parsed, kernel)
        weights = values.shape[1] * values.shape[2] * (1 if depthwise else values.shape[3])
        options = operator.builtinOptions
        plain = options.dilationHFactor == options.dilationWFactor == 1
        channels = int(graph.tensors[source].shape[3])
        direct = channels == values.shape[3]  # neither groups nor a depth multiplier
        if name in recorded and plain and direct and weights <= LARGEST_FILTER and readers.count(kernel) == 1:
            shape = tuple(map(int, graph.tensors[source].shape))
            found[tflite_name(graph, operator)] = _Layer(
                values, tflite_constant(parsed, bias), recorded.index(name), shape, depthwise=depthwise
            )
    return found
