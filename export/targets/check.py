"""Walk a backbone's graph and name what a target cannot take: the operator, its layer, and what to use instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from sonoedge.edge_runtime.errors import ModelError, few
from sonoedge.export.convert.graphs import parse_tflite, tflite_text
from sonoedge.export.targets.table import Target

_STUDENT = "Train a student without it: sonoedge distill --student mobilenet, or efficientnet-lite0"
_INSTEAD = {
    "DIV": "a multiplication; a division by something that is provably positive is rewritten",
    "HARD_SWISH": "ReLU6",
    "ELU": "ReLU6",
    "GELU": "ReLU6",
    "EXP": "ReLU6 or a sigmoid",
    "POW": "a multiplication",
    "SQRT": "a multiplication by RSQRT",
    "BATCH_MATMUL": "a 1 x 1 convolution",
}
_NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
_TYPES = {number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}


def operation_of(model: Any, operator: Any) -> str:
    """The type of an operator in the runtime's spelling, ``CONV_2D``."""
    code = model.operatorCodes[operator.opcodeIndex]
    return _NAMES[code.builtinCode] if code.customCode is None else f"CUSTOM {tflite_text(code.customCode)}"


def layer_of(graph: Any, operator: Any) -> str:
    """Where an operator stands: the first path in the name of what it writes."""
    return tflite_text(graph.tensors[int(operator.outputs[0])].name).split(";")[0]


def check_operators(model: bytes, target: Target) -> None:
    """Check the operators and shapes of a backbone, float or int8, against the target's list.

    Args:
        model: flatbuffer.
        target: an integer target.

    Raises:
        ModelError: an operator that the target does not take, a stretch that it does not do, a shape that is not
            fixed.
    """
    parsed = parse_tflite(model)
    found = [problem for graph in parsed.subgraphs for problem in _problems(parsed, graph, target)]
    if found:
        raise ModelError(f"The backbone cannot run on {target.name}: {few(list(dict.fromkeys(found)), 3)}")


def _problems(model: Any, graph: Any, target: Target) -> Iterator[str]:
    for tensor in graph.tensors:
        shape = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
        if shape is not None and (np.asarray(shape) < 0).any():
            name = tflite_text(tensor.name).split(";")[0]
            yield f"the tensor {name} has the shape {np.asarray(shape).tolist()}, which must be fixed (batch 1)."
    for operator in graph.operators:
        operation, layer = operation_of(model, operator), layer_of(graph, operator)
        if operation not in target.operators:
            instead = f"Use {_INSTEAD[operation]} instead." if operation in _INSTEAD else f"{_STUDENT}."
            yield f"it does not take {operation}, in the layer {layer}. {instead}"
        elif operation == "RESIZE_BILINEAR" and target.resize_factors:
            yield from _resizing(graph, operator, layer, target)


def _resizing(graph: Any, operator: Any, layer: str, target: Target) -> Iterator[str]:
    before, after = (
        np.asarray(graph.tensors[int(i)].shape)[1:3] for i in (operator.inputs[0], operator.outputs[0])
    )
    if not (before == after).all() and not any((after == f * before).all() for f in target.resize_factors):
        factors = f"by {target.resize_factors[0]}" if len(target.resize_factors) == 1 else "by a power of two"
        yield (
            f"RESIZE_BILINEAR in the layer {layer} stretches {before.tolist()} to {after.tolist()}; it stretches "
            f"both sides {factors} only. Choose an input size whose grids differ by such a factor."
        )


def check_integers(model: bytes) -> None:
    """Check that a quantized backbone is int8 from its input to its outputs, and that pixels are exact.

    Every tensor that an operator computes is int8; constants are integers; the input is image - 128, exactly.

    Raises:
        ModelError: something is not so; the message names it.
    """
    parsed = parse_tflite(model)
    (graph,) = parsed.subgraphs
    written = {int(i) for operator in graph.operators for i in operator.outputs} | {int(i) for i in graph.inputs}
    integers = {schema.TensorType.INT8, schema.TensorType.INT32, schema.TensorType.INT64}
    for operator in graph.operators:
        for i in (int(i) for i in (*operator.inputs, *operator.outputs) if i >= 0):
            kind = graph.tensors[i].type
            if kind not in ({schema.TensorType.INT8} if i in written else integers):
                raise ModelError(
                    f"The file is not int8 throughout: {operation_of(parsed, operator)} in the layer "
                    f"{layer_of(graph, operator)} has a {_TYPES[kind]} tensor. Every operator must be quantized: "
                    "leave the recipe out, or export with --target cpu."
                )
    tensor = graph.tensors[int(graph.inputs[0])]
    scale, zero = tensor.quantization.scale, tensor.quantization.zeroPoint
    if (len(scale), float(scale[0]), int(zero[0])) != (1, 1.0, -128):
        raise ModelError(f"The input must be image - 128. Received: scale {scale}, zero point {zero}.")


def fragile_parts(model: bytes) -> str:
    """What int8 is known to harm in a float backbone, in words with the first layer of each; empty if nothing is.

    Swish is x times its sigmoid. Squeeze-and-excite multiplies a map by one sigmoid for each channel.
    """
    parsed = parse_tflite(model)
    (graph,) = parsed.subgraphs
    writer = {int(i): operator for operator in graph.operators for i in operator.outputs}
    found: dict[str, str] = {}
    for operator in graph.operators:
        if operation_of(parsed, operator) == "HARD_SWISH":
            found.setdefault("swish", layer_of(graph, operator))
        if operation_of(parsed, operator) != "MUL":
            continue
        for factor, other in (operator.inputs, operator.inputs[::-1]):
            gate = writer.get(int(factor))
            if gate is None or operation_of(parsed, gate) != "LOGISTIC":
                continue
            if int(gate.inputs[0]) == int(other):
                found.setdefault("swish", layer_of(graph, operator))
            elif list(graph.tensors[int(factor)].shape[1:3]) == [1, 1]:
                found.setdefault("squeeze-and-excite", layer_of(graph, operator))
    return " and ".join(f"{what} (first in {layer})" for what, layer in found.items())
