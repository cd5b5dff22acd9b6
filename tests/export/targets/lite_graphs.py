"""A small float backbone as a flatbuffer, operator by operator, without TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from sonoedge.export.convert.graphs import pack_tflite, parse_tflite, tflite_operators
from sonoedge.export.quantize.activations import collect_statistics
from sonoedge.export.quantize.quantization import quantize_tflite
from sonoedge.export.quantize.ranges import activation_ranges
from sonoedge.export.quantize.recorders import TFLiteRecorder

SIDE = 16
_SAME = schema.Padding.SAME


def images(count: int = 8, seed: int = 1) -> list[NDArray[np.float32]]:
    """Random inputs, float32 (1, `SIDE`, `SIDE`, 3), whole numbers 0–255."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.float32) for _ in range(count)]


class Graph:
    """A flatbuffer in the making. Tensors are known by name; constants are float32 or int32."""

    def __init__(self, seed: int = 4) -> None:
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.description = 3, b"by hand"
        self._model.buffers, self._model.operatorCodes = [schema.BufferT()], []
        self._graph.tensors, self._graph.operators = [], []
        self._numbers: dict[str, int] = {}
        self._rng = np.random.default_rng(seed)
        self.tensor("image", (1, SIDE, SIDE, 3))

    def tensor(self, name: str, shape: tuple[int, ...], data: Any = None) -> str:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, np.array(shape, np.int32), 0
        tensor.type = schema.TensorType.FLOAT32
        if data is not None:
            array = np.asarray(data)
            tensor.type = schema.TensorType.INT32 if array.dtype == np.int32 else schema.TensorType.FLOAT32
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(array.tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            tensor.buffer = len(self._model.buffers) - 1
        self._numbers[name] = len(self._graph.tensors)
        self._graph.tensors.append(tensor)
        return name

    def add(self, operation: str, inputs: list[str], name: str, shape: tuple[int, ...], **options: Any) -> str:
        """An operator that writes a new tensor; ``options`` are those of its table."""
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, operation)
        code.version = 3 if operation == "RESIZE_BILINEAR" else 1
        self._model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        self.tensor(name, shape)
        operator.inputs = np.array([self._numbers[i] for i in inputs], np.int32)
        operator.outputs = np.array([self._numbers[name]], np.int32)
        tables = {"CONV_2D": "Conv2D", "RESIZE_BILINEAR": "ResizeBilinear", "MEAN": "Reducer"}
        table = f"{tables.get(operation, operation.capitalize())}Options"
        if hasattr(schema, f"{table}T"):
            operator.builtinOptions = getattr(schema, f"{table}T")()
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            for key, value in options.items():
                setattr(operator.builtinOptions, key, value)
        self._graph.operators.append(operator)
        return name

    def convolution(self, source: str, name: str, size: int, side: int, channels: int, step: int = 1) -> str:
        before = int(self._graph.tensors[self._numbers[source]].shape[-1])
        scale = 1 / 255 if source == "image" else 1
        kernel = self._rng.normal(0, scale * (size * size * before) ** -0.5, (channels, size, size, before))
        weights = self.tensor(f"{name}/kernel", kernel.shape, kernel.astype(np.float32))
        bias = self.tensor(f"{name}/bias", (channels,), self._rng.normal(0, 0.1, channels).astype(np.float32))
        return self.add(
            "CONV_2D", [source, weights, bias], name, (1, side, side, channels),
            padding=_SAME, strideH=step, strideW=step, dilationHFactor=1, dilationWFactor=1,
            fusedActivationFunction=schema.ActivationFunctionType.RELU6 if channels > 1 else 0,
        )  # fmt: skip

    def bytes(self, output: str) -> bytes:
        """The flatbuffer, with one signature: ``image`` -> ``map``."""
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex, ends = "serving_default", 0, []
        for name, tensor in (("image", "image"), ("map", output)):
            end = schema.TensorMapT()
            end.name, end.tensorIndex = name, self._numbers[tensor]
            ends.append([end])
        signature.inputs, signature.outputs = ends
        self._graph.inputs = np.array([self._numbers["image"]], np.int32)
        self._graph.outputs = np.array([self._numbers[output]], np.int32)
        self._model.subgraphs, self._model.signatureDefs = [self._graph], [signature]
        return pack_tflite(self._model)


def lesion_graph(*, sigmoid: bool = True) -> bytes:
    """What `train.models.lesion` adds to two convolutions: stretched, joined, weighted, divided by the mean weight.

    Args:
        sigmoid: without it the weight may be negative.
    """
    graph = Graph()
    stem = graph.convolution("image", "stem", 3, 8, 8, step=2)
    top = graph.convolution(stem, "top", 3, 4, 8, step=2)
    size = graph.tensor("size", (2,), np.array([8, 8], np.int32))
    top = graph.add("RESIZE_BILINEAR", [top, size], "stretched", (1, 8, 8, 8), halfPixelCenters=True)
    lateral = graph.convolution(stem, "lateral", 1, 8, 8)
    joined = graph.add("ADD", [top, lateral], "merged", (1, 8, 8, 8))
    weight = graph.convolution(joined, "lesion", 1, 8, 1)
    if sigmoid:
        weight = graph.add("LOGISTIC", [weight], "share", (1, 8, 8, 1))
    softening = graph.tensor("softening", (), np.float32(0.02))
    weight = graph.add("ADD", [weight, softening], "softened", (1, 8, 8, 1))
    axes = graph.tensor("axes", (2,), np.array([1, 2], np.int32))
    mean = graph.add("MEAN", [weight, axes], "mean", (1, 1, 1, 1), keepDims=True)
    weight = graph.add("DIV", [weight, mean], "divided", (1, 8, 8, 1))
    return graph.bytes(graph.add("MUL", [joined, weight], "weighted", (1, 8, 8, 8)))


def quantized(model: bytes, *, spared: str = "", integer_ends: bool = True) -> bytes:
    """The model in int8, ranges from `images`; the operator whose name begins with ``spared`` stays in float."""
    inputs = images()
    digests = [f"{number:08x}" for number in range(len(inputs))]
    statistics = collect_statistics(lambda: TFLiteRecorder(model), "", inputs, digests)
    low, high = activation_ranges(statistics, "extremes")
    ranges = dict(zip(statistics.names, zip(low.tolist(), high.tolist(), strict=True), strict=True))
    precisions = {
        o.name: "float" if spared and o.name.startswith(spared) else "w8a8" for o in tflite_operators(model)
    }
    return quantize_tflite(model, precisions, "w8a8", ranges, integer_ends=integer_ends)


def changed(model: bytes, change: Any) -> bytes:
    """The model after ``change(parsed)``."""
    parsed = parse_tflite(model)
    change(parsed)
    return pack_tflite(parsed)
