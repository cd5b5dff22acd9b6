"""Structure check of a ``.tflite`` file, before an interpreter sees it.

Interpreters trust the offsets and indices of a model file and crash on wrong ones. This module checks two sets of
rules. FlatBuffer's binary format: root offset, vtables, vectors and strings lie inside the file and are aligned.
The TFLite schema, version 3: every index names something that exists, every constant is as long as its shape says,
and all operators are built-in data-flow operators. Custom operators, delegates, calls into another graph, variables
and hash tables are refused. The check is pure Python on a few hundred tables and takes some 20 ms.

Interpreters themselves check whether the shapes of an operator fit each other. For faults that they miss,
`edge_runtime.device.sandbox` replays files of unknown origin in a child process.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from sonoedge.edge_runtime.backends.flatbuffer_tables import File, Malformed, Table
from sonoedge.edge_runtime.errors import ModelError

IDENTIFIER = b"TFL3"
SCHEMA = 3
MAX_TENSOR_BYTES = 1 << 30
MAX_RANK = 8

# Bytes of one element by TensorType; None if it is no fixed number of whole bytes (strings, 4- and 2-bit integers).
_ITEM_BYTES = {
    0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 5: None, 6: 1, 7: 2, 8: 8, 9: 1, 10: 8, 11: 16, 12: 8, 15: 4, 16: 2, 17: None,
    18: 2,
}  # fmt: skip
# Numbers of the BuiltinOperators that are not one stateless kernel.
_REFUSED = {
    31: "CALL", 32: "CUSTOM", 51: "DELEGATE", 118: "IF", 119: "WHILE", 127: "PLACEHOLDER", 129: "CALL_ONCE",
    136: "HASHTABLE", 137: "HASHTABLE_FIND", 138: "HASHTABLE_IMPORT", 139: "HASHTABLE_SIZE", 142: "VAR_HANDLE",
    143: "READ_VARIABLE", 144: "ASSIGN_VARIABLE",
}  # fmt: skip
_FIRST_STABLEHLO = 162
_DEPTHWISE = 4
_WEIGHTED = {3, _DEPTHWISE, 9}  # CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED
_INTEGERS = {3, 7, 9}  # UINT8, INT16, INT8
_FIRST_TYPE_OF_OPTIONS_TABLE = 1


@dataclass(frozen=True)
class Summary:
    """What a checked file holds.

    Attributes:
        subgraphs, tensors, operators: how many the file holds.
        macs: multiply-adds of the convolutions and dense layers in one inference.
        int8_macs: the part of ``macs`` in operators with an integer input.
        inputs, outputs: the names in the file's only signature.
    """

    subgraphs: int
    tensors: int
    operators: int
    macs: int
    int8_macs: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def check_tflite(data: bytes, name: str = "model") -> Summary:
    """Check the bytes of a TFLite file.

    Args:
        data: the whole file.
        name: of the file, for the message.

    Raises:
        ModelError: the file breaks a rule of this module; the message says which.
    """
    try:
        return _model(File(data))
    except Malformed as error:
        raise ModelError(f"{name} is not a sound TFLite file: {error}.") from error


def _model(file: File) -> Summary:
    if file.data[4:8] != IDENTIFIER:
        raise Malformed(f"bytes 4 to 7 are {file.data[4:8]!r}, not {IDENTIFIER!r}")
    model = Table(file, file.follow(0))
    if (version := model.scalar(0, "I")) != SCHEMA:
        raise Malformed(f"its schema version is {version}, not {SCHEMA}")
    codes = [_operator_code(code) for code in model.tables(1)]
    buffers = [_buffer(buffer) for buffer in model.tables(4)]
    model.text(3)
    for metadata in model.tables(6):
        metadata.text(0)
        _below(metadata.scalar(1, "I"), len(buffers), "metadata names buffer")
    tensors, operators, macs, int8_macs = [], 0, 0, 0
    for graph in model.tables(2):
        shapes, kinds = [], []
        for tensor in graph.tables(0):
            shapes.append(_tensor(tensor, buffers))
            kinds.append(tensor.scalar(1, "b"))
        for field, what in ((1, "an input of the graph"), (2, "an output of the graph")):
            _indices(graph.numbers(field, "<i4"), len(shapes), what, optional=False)
        graph.text(4)
        for operator in graph.tables(3):
            own = _operator(operator, codes, shapes)
            macs += own
            if own and kinds[operator.numbers(1, "<i4")[0]] in _INTEGERS:
                int8_macs += own
            operators += 1
        tensors.append(len(shapes))
    if not tensors:
        raise Malformed("it holds no graph")
    inputs, outputs = _signature(model, tensors)
    return Summary(len(tensors), sum(tensors), operators, macs, int8_macs, inputs, outputs)


def _operator_code(code: Table) -> int:
    # Old writers fill only the signed byte, new ones both fields: the larger number counts.
    number = max(code.scalar(0, "b"), code.scalar(3, "i"))
    custom = code.text(1)[:60]
    if number < 0 or number >= _FIRST_STABLEHLO or number in _REFUSED:
        name = _REFUSED.get(number, f"number {number}") + (f" {custom!r}" if custom else "")
        raise Malformed(f"it asks for operator {name}, which is not run here")
    return number


def _buffer(buffer: Table) -> int:
    """Bytes of constant data; the data lie in the table, or (litert-quantizer) behind the FlatBuffer."""
    inside = buffer.vector(0, 1)[1]
    offset, size = buffer.scalar(1, "Q"), buffer.scalar(2, "Q")
    if size and (inside or offset % 4 or offset + size > len(buffer.file.data)):
        raise Malformed(f"constants at {offset}, {size} bytes, are outside of the file or not aligned")
    return inside or size


def _tensor(tensor: Table, buffers: list[int]) -> tuple[int, ...]:
    shape = tuple(int(size) for size in tensor.numbers(0, "<i4"))
    name = tensor.text(3)[:60]
    kind = tensor.scalar(1, "b")
    if len(shape) > MAX_RANK or any(size < 0 for size in shape) or kind not in _ITEM_BYTES:
        raise Malformed(f"tensor {name!r} has type {kind} and shape {shape}")
    elements = prod(shape)
    item_bytes = _ITEM_BYTES[kind]
    if elements * (item_bytes or 1) > MAX_TENSOR_BYTES:
        raise Malformed(f"tensor {name!r} of shape {shape} is larger than {MAX_TENSOR_BYTES:,} bytes")
    stored = buffers[_below(tensor.scalar(2, "I"), len(buffers), f"tensor {name!r} names buffer")]
    if tensor.table(6) is not None:
        raise Malformed(f"tensor {name!r} is sparse, which is not run here")
    if stored and item_bytes is not None and stored != elements * item_bytes:
        raise Malformed(f"tensor {name!r} of shape {shape} has {stored} bytes, not {elements * item_bytes}")
    if len(signature := tensor.numbers(7, "<i4")) not in {0, len(shape)}:
        raise Malformed(f"tensor {name!r} has two ranks: {shape} and {signature.tolist()}")
    if any(True for _ in tensor.tables(9)):
        raise Malformed(f"tensor {name!r} is a variant, which is not run here")
    if (quantization := tensor.table(4)) is not None:
        _quantization(quantization, shape, name)
    return shape


def _quantization(table: Table, shape: tuple[int, ...], name: str) -> None:
    scale, zero_point = table.numbers(2, "<f4"), table.numbers(3, "<i8")
    axis = table.scalar(6, "i")
    if not 0 <= axis < max(1, len(shape)):
        raise Malformed(f"tensor {name!r} is quantized along axis {axis} of {shape}")
    allowed = {0, 1, shape[axis]} if shape else {0, 1}
    if len(scale) not in allowed or len(zero_point) not in {*allowed, len(scale)}:
        raise Malformed(f"tensor {name!r} of shape {shape} has {len(scale)} scales, {len(zero_point)} zero points")
    if not np.isfinite(scale).all() or (scale < 0).any():
        raise Malformed(f"tensor {name!r} has a scale that is not a positive number")
    table.numbers(0, "<f4")
    table.numbers(1, "<f4")
    if table.scalar(4, "B"):
        raise Malformed(f"tensor {name!r} has custom quantization, which is not run here")


def _operator(operator: Table, codes: list[int], shapes: list[tuple[int, ...]]) -> int:
    """Check one operator; returns its multiply-adds."""
    code = codes[_below(operator.scalar(0, "I"), len(codes), "an operator has code")]
    inputs, outputs = operator.numbers(1, "<i4"), operator.numbers(2, "<i4")
    _indices(inputs, len(shapes), "an operator's input", optional=True)
    _indices(outputs, len(shapes), "an operator's output", optional=False)
    _indices(operator.numbers(8, "<i4"), len(shapes), "an operator's intermediate", optional=True)
    operator.vector(7, 1)
    for kind, value in ((3, 4), (11, 12)):
        # A union with a type must have a table: the kernel would follow a null pointer.
        if operator.scalar(kind, "B") >= _FIRST_TYPE_OF_OPTIONS_TABLE and operator.table(value) is None:
            raise Malformed("an operator's options are missing")
    if operator.vector(5, 1)[1] or operator.scalar(9, "Q") or operator.scalar(10, "Q"):
        raise Malformed("an operator has custom options, which is not run here")
    if code not in _WEIGHTED or len(inputs) < 2 or len(outputs) < 1:
        return 0
    weights, output = shapes[inputs[1]], shapes[outputs[0]]
    # Weights are (out, height, width, in), (1, height, width, out) or (out, in); the output ends with `out`.
    axis = -1 if code == _DEPTHWISE else 0
    return prod(weights) // max(1, weights[axis]) * prod(output) if weights else 0


def _signature(model: Table, tensors: list[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    signatures = list(model.tables(7))
    if len(signatures) != 1:
        raise Malformed(f"it has {len(signatures)} signatures, not one")
    graph = _below(signatures[0].scalar(4, "I"), len(tensors), "the signature names graph")
    signatures[0].text(2)
    names = []
    for field in (0, 1):
        maps = list(signatures[0].tables(field))
        for entry in maps:
            _below(entry.scalar(1, "I"), tensors[graph], "the signature names tensor")
        names.append(tuple(entry.text(0) for entry in maps))
        if len(set(names[-1])) != len(names[-1]) or not names[-1]:
            raise Malformed(f"the signature's names are {names[-1]}")
    return names[0], names[1]


def _below(index: int, limit: int, what: str) -> int:
    if index >= limit:
        raise Malformed(f"{what} {index} of {limit}")
    return index


def _indices(values: np.ndarray, limit: int, what: str, *, optional: bool) -> None:
    if ((values < (-1 if optional else 0)) | (values >= limit)).any():
        raise Malformed(f"{what} is none of its {limit} tensors")
