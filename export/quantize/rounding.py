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
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from sonoedge.export.convert.graphs import (
    MOVED,
    empty_unused,
    pack_tflite,
    parse_tflite,
    tflite_constant,
    tflite_name,
    tflite_text,
)
from sonoedge.export.quantize.recorders import TFLiteRecorder

ROUNDING_VERSION = "2"
"""Raise it when the same model and images give other weights than before: cached ones are then not used."""
POSITIONS = 64
"""Places of every map at which a filter's inputs are looked at, per image."""
LARGEST_FILTER = 1152
"""Weights of a filter, at most; in larger ones the errors average out, and the covariance would take long."""
STEPS = 127
"""Steps from zero to the largest weight of a filter."""
HALF_STEPS = 63
"""The same where two products of 8 bits are added in 16 bits, as on x86 processors without VNNI."""
_SWEEPS = 4
_DAMPING = 1e-3
_SAME = 1e-5
"""Largest difference between two runtimes' kernels of one layer, relative to the largest weight."""
Float = NDArray[np.float32]
Double = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """A convolution's kernel, in the flatbuffer's shape, and its bias (O,), float32."""

    kernel: Float
    bias: Float


def round_weights(model: bytes, inputs: Iterable[Float], steps: int = STEPS) -> dict[str, Weights]:
    """Rounded weights of a backbone's convolutions by operator name.

    Convolutions whose filters have more than `LARGEST_FILTER` weights, or share them with another, are left out.

    Args:
        model: float32 flatbuffer.
        inputs: calibration images, float32 (1, height, width, 3), 0–255.
        steps: see `round_filters`.

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
    return {name: layer.rounded(steps) for name, layer in layers.items() if layer.seen}


def with_weights(model: bytes, weights: Mapping[str, Weights]) -> bytes:
    """The flatbuffer with other weights for the named operators; names that it does not have are left out."""
    parsed = parse_tflite(model)
    graph = parsed.subgraphs[0]
    for operator in graph.operators:
        own = weights.get(tflite_name(graph, operator))
        for place, array in ((1, own.kernel), (2, own.bias)) if own else ():
            # Constants of their own: the converter stores equal ones once, for several operators.
            tensor = copy(graph.tensors[int(operator.inputs[place])])
            tensor.buffer = len(parsed.buffers)
            tensor.name = f"{tflite_text(graph.tensors[int(operator.outputs[0])].name)}/rounded/{place}"
            parsed.buffers.append(schema.BufferT())
            parsed.buffers[-1].data = np.frombuffer(array.tobytes(), np.uint8)
            operator.inputs[place] = len(graph.tensors)
            graph.tensors.append(tensor)
    empty_unused(parsed)
    return pack_tflite(parsed)


def with_weights_openvino(model: Any, flatbuffer: bytes, weights: Mapping[str, Weights]) -> None:
    """Give convolutions of a float32 `openvino.Model` other weights, in place.

    OpenVINO has names of its own, so that a convolution is known by its kernel. One that is not found stays.

    Args:
        model: the backbone.
        flatbuffer: the same backbone.
        weights: what replaces the flatbuffer's, by the names of its operators.
    """
    from openvino import opset13

    parsed = parse_tflite(flatbuffer)
    graph = parsed.subgraphs[0]
    pairs = [
        (_weights_of(parsed, operator), weights[name])
        for operator in graph.operators
        if (name := tflite_name(graph, operator)) in weights
    ]
    for node in model.get_ordered_ops():
        constant = node.input_value(1).get_node() if "Convolution" in node.get_type_name() else None
        if constant is None or constant.get_type_name() != "Constant":
            continue
        kernel = constant.get_data()
        found = next((pair for pair in pairs if _is_same(kernel, pair[0].kernel)), None)
        if found is None:
            continue
        exact, own = found
        node.input(1).replace_source_output(opset13.constant(_as_openvino(own.kernel, kernel)).output(0))
        shift = (own.bias - exact.bias).reshape(1, -1, 1, 1)
        readers = list(node.output(0).get_target_inputs())
        add = readers[0].get_node()
        bias = next(
            (p for p in add.inputs() if p.get_source_output().get_node().get_type_name() == "Constant"), None
        )
        if len(readers) == 1 and add.get_type_name() == "Add" and bias is not None:
            data = bias.get_source_output().get_node().get_data()
            bias.replace_source_output(opset13.constant((data + shift).astype(np.float32)).output(0))
            continue
        moved = opset13.add(node, opset13.constant(shift))
        moved.set_friendly_name(f"{node.get_friendly_name()}{MOVED}")
        for reader in readers:
            reader.replace_source_output(moved.output(0))
    model.validate_nodes_and_infer_types()


def _weights_of(parsed: Any, convolution: Any) -> Weights:
    """The weights of a convolution as they stand in a parsed flatbuffer."""
    return Weights(*(tflite_constant(parsed, int(i)) for i in convolution.inputs[1:3]))


def _as_openvino(kernel: Float, like: Float) -> Float:
    """A flatbuffer's kernel, (O, h, w, I) or (1, h, w, C), in OpenVINO's (O, I, h, w) or (C, 1, 1, h, w)."""
    turned = kernel.transpose((0, 3, 1, 2) if like.ndim == 4 else (3, 0, 1, 2))
    return np.ascontiguousarray(turned.reshape(like.shape))


def _is_same(kernel: Float, known: Float) -> bool:
    depthwise = kernel.ndim == 5
    shape = (known.shape[3], 1, 1, *known.shape[1:3]) if depthwise else tuple(known.shape[i] for i in (0, 3, 1, 2))
    if kernel.shape != shape or (depthwise and known.shape[0] != 1):
        return False
    return bool(np.abs(_as_openvino(known, kernel) - kernel).max() <= _SAME * np.abs(kernel).max())


def round_filters(weights: Double, mean: Double, covariance: Double, steps: int = STEPS) -> tuple[Double, Double]:
    """Round filters to whole steps, one scale for each filter.

    Args:
        weights: (O, K).
        mean: of the inputs, (K,) or one for each filter, (O, K).
        covariance: of the inputs, (K, K) or (O, K, K).
        steps: from zero to the largest weight of a filter.

    Returns:
        The rounded weights (O, K), and what must be added to the bias (O,).
    """
    own = covariance.ndim == 3
    diagonal = np.einsum("...kk->...k", covariance)
    covariance = covariance + np.eye(weights.shape[1]) * (_DAMPING * diagonal.mean(axis=-1)[..., None, None] + 1e-9)
    scale = np.maximum(np.abs(weights).max(axis=1), 1e-12) / steps
    whole = np.clip(np.rint(weights / scale[:, None]), -steps, steps)
    largest = np.abs(weights).argmax(axis=1)
    errors = whole * scale[:, None] - weights
    gradient = np.einsum("ok,okj->oj", errors, covariance) if own else errors @ covariance
    for _ in range(_SWEEPS):
        moved = False
        for k in range(weights.shape[1]):
            curvature = covariance[:, k, k] if own else covariance[k, k]
            step = -np.sign(gradient[:, k])
            gain = scale * (2 * step * gradient[:, k] + scale * curvature)
            rows = np.flatnonzero((gain < 0) & (np.abs(whole[:, k] + step) <= steps) & (largest != k))
            change = (step * scale)[rows, None]
            whole[rows, k] += step[rows]
            errors[rows, k] += change[:, 0]
            gradient[rows] += change * (covariance[rows, k] if own else covariance[k])
            moved |= rows.size > 0
        if not moved:
            break
    return whole * scale[:, None], -(errors * mean).sum(axis=1)


class _Layer:
    """A convolution, and the moments of its filters' inputs so far."""

    def __init__(self, exact: Weights, source: int, shape: tuple[int, ...], *, depthwise: bool) -> None:
        self.source, self.seen = source, 0
        self._exact, self._shape, self._depthwise = exact, shape, depthwise
        self._total: Double | float = 0.0
        self._squares: Double | float = 0.0

    def look(self, values: Float, rng: np.random.Generator) -> None:
        """Add the inputs at some places of one image; at the rim filters read padding and are not looked at."""
        height, width = self._exact.kernel.shape[1:3]
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

    def rounded(self, steps: int) -> Weights:
        """The layer's weights, rounded for the inputs that were seen."""
        mean = np.asarray(self._total) / self.seen
        covariance = np.asarray(self._squares) / self.seen - mean[..., :, None] * mean[..., None, :]
        kernel = self._exact.kernel.astype(np.float64)
        filters = kernel.reshape(-1, kernel.shape[3]).T if self._depthwise else kernel.reshape(len(kernel), -1)
        rounded, shift = round_filters(filters, mean, covariance, steps)
        rounded = rounded.T if self._depthwise else rounded
        return Weights(
            rounded.reshape(kernel.shape).astype(np.float32), (self._exact.bias + shift).astype(np.float32)
        )


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
        source, kernel, _ = (int(i) for i in operator.inputs)
        name = tflite_text(graph.tensors[source].name)
        depthwise = kind == schema.BuiltinOperator.DEPTHWISE_CONV_2D
        exact = _weights_of(parsed, operator)
        _, height, width, deep = exact.kernel.shape
        weights = height * width * (1 if depthwise else deep)
        options = operator.builtinOptions
        plain = options.dilationHFactor == options.dilationWFactor == 1
        shape = tuple(map(int, graph.tensors[source].shape))
        direct = shape[3] == deep  # neither groups nor a depth multiplier
        if name in recorded and plain and direct and weights <= LARGEST_FILTER and readers.count(kernel) == 1:
            found[tflite_name(graph, operator)] = _Layer(exact, recorded.index(name), shape, depthwise=depthwise)
    return found
