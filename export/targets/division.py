"""Division for chips that cannot divide: a / b as a times the square of 1 / sqrt(b).

The weight of the lesion (`train.models.lesion`) is divided by its mean. Ethos-U55, U65 and the Edge TPU have no
division, but look 1 / sqrt(x) up in a table. In float32 the result is the same but for rounding, if b is positive.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from sonoedge.export.convert.graphs import pack_tflite, parse_tflite, tflite_text
from sonoedge.export.targets.check import operation_of

_NOT_NEGATIVE = {"LOGISTIC", "RELU", "RELU6", "SOFTMAX"}
_KEEPING_SIGN = {"MEAN", "RESHAPE", "AVERAGE_POOL_2D"}


def without_division(model: bytes) -> bytes:
    """The float flatbuffer with every division by something provably positive replaced; others stay.

    Args:
        model: flatbuffer.
    """
    parsed = parse_tflite(model)
    for graph in parsed.subgraphs:
        writer = {int(i): operator for operator in graph.operators for i in operator.outputs}
        operators = []
        for operator in graph.operators:
            plain = getattr(operator.builtinOptions, "fusedActivationFunction", 0) == 0
            if operation_of(parsed, operator) == "DIV" and plain and _is_positive(parsed, graph, writer, operator):
                operators += _product(parsed, graph, operator)
            else:
                operators.append(operator)
        graph.operators = operators
    return pack_tflite(parsed)


def _is_positive(model: Any, graph: Any, writer: dict[int, Any], division: Any) -> bool:
    return _sign(model, graph, writer, int(division.inputs[1])) > 0


def _sign(model: Any, graph: Any, writer: dict[int, Any], tensor: int) -> int:
    """1: more than 0 whatever the image; 0: at least 0; -1: not known."""
    operator = writer.get(tensor)
    if operator is None:
        values = _constant(model, graph, tensor)
        return -1 if values is None or (values < 0).any() else int((values > 0).all())
    operation = operation_of(model, operator)
    if operation in _NOT_NEGATIVE:
        return 0
    if operation in _KEEPING_SIGN:
        return _sign(model, graph, writer, int(operator.inputs[0]))
    if operation == "ADD":
        signs = [_sign(model, graph, writer, int(i)) for i in operator.inputs]
        return max(signs) if min(signs) >= 0 else -1
    return -1


def _constant(model: Any, graph: Any, tensor: int) -> Any:
    data = model.buffers[graph.tensors[tensor].buffer].data
    if graph.tensors[tensor].type != schema.TensorType.FLOAT32 or data is None or not len(data):
        return None
    return np.asarray(data, np.uint8).view(np.float32)


def _product(model: Any, graph: Any, division: Any) -> list[Any]:
    """RSQRT(b), its square, and a times the square."""
    dividend, divisor = (int(i) for i in division.inputs)
    name = tflite_text(graph.tensors[int(division.outputs[0])].name)
    root, square = (_tensor(graph, divisor, f"{name}/{what}") for what in ("rsqrt", "reciprocal"))
    return [
        _operator(model, "RSQRT", [divisor], [root]),
        _operator(model, "MUL", [root, root], [square]),
        _operator(model, "MUL", [dividend, square], [int(division.outputs[0])]),
    ]


def _tensor(graph: Any, like: int, name: str) -> int:
    tensor = copy.deepcopy(graph.tensors[like])
    tensor.name, tensor.buffer = name, 0
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _operator(model: Any, operation: str, inputs: list[int], outputs: list[int]) -> Any:
    number = getattr(schema.BuiltinOperator, operation)
    codes = [code.builtinCode for code in model.operatorCodes]
    if number not in codes:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = number
        code.version = 1
        model.operatorCodes.append(code)
        codes.append(number)
    operator = schema.OperatorT()
    operator.opcodeIndex = codes.index(number)
    operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    if operation == "MUL":
        operator.builtinOptions, operator.builtinOptionsType = (
            schema.MulOptionsT(),
            schema.BuiltinOptions.MulOptions,
        )
    return operator
