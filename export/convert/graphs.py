"""Look into float backbones: their operators, the branches that each one feeds, and a single branch cut out.

A search over one branch need not run the others. In the fused model of the paper that makes 10 instead of 250
milliseconds an image.
"""

from __future__ import annotations

import math
import struct
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.export.convert.operators import Operator

MOVED = "/moved"
"""End of the name of an addition that corrects the operator of the name before it."""
_PASSIVE = frozenset({"Constant", "Parameter", "Result", "Convert"})


def parse_tflite(model: bytes) -> Any:
    """The flatbuffer as an object tree that can be changed.

    Raises:
        ModelError: the bytes are no TensorFlow Lite file.
    """
    try:
        parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(model)))
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"This is no TensorFlow Lite file: {error}") from error
    for buffer in parsed.buffers:
        if buffer.offset > 1:
            # Large weights may lie behind the flatbuffer: packing it again would lose them.
            buffer.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return parsed


def pack_tflite(model: Any) -> bytes:
    """The reverse of `parse_tflite`."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def tflite_text(value: Any) -> str:
    """A flatbuffer's string, which may be bytes, as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def tflite_name(graph: Any, operator: Any) -> str:
    """Name of an operator: those of the tensors that it writes, as in litert-quantizer, so that recipes match."""
    return "".join(f"{tflite_text(graph.tensors[i].name)};" for i in operator.outputs)


def tflite_constant(parsed: Any, tensor: int) -> NDArray[np.float32]:
    """A constant of a parsed flatbuffer, float32, in its shape."""
    found = parsed.subgraphs[0].tensors[tensor]
    data = np.asarray(parsed.buffers[found.buffer].data, np.uint8)
    return np.frombuffer(data.tobytes(), np.float32).reshape(found.shape)


def tflite_operators(model: bytes) -> tuple[Operator, ...]:
    """Operators of a flatbuffer with one sub-graph and one signature, with the outputs that depend on each.

    Raises:
        ModelError: the bytes are no TensorFlow Lite file.
    """
    parsed = parse_tflite(model)
    graph = parsed.subgraphs[0]
    codes = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    reached = {name: _ancestors(graph, tensor) for name, tensor in _signature_outputs(parsed).items()}
    names = [tflite_name(graph, op) for op in graph.operators]
    writer = {int(i): name for op, name in zip(graph.operators, names, strict=True) for i in op.outputs}
    return tuple(
        Operator(
            name=names[number],
            operation=codes[parsed.operatorCodes[op.opcodeIndex].builtinCode],
            branches=frozenset(name for name, found in reached.items() if number in found),
            inputs=tuple(writer[int(i)] for i in op.inputs if int(i) in writer),
            macs=_tflite_macs(codes[parsed.operatorCodes[op.opcodeIndex].builtinCode], op, graph.tensors),
        )
        for number, op in enumerate(graph.operators)
    )


def tflite_branch(model: bytes, output: str) -> bytes:
    """The flatbuffer with one output of its signature and only the operators that this output needs."""
    parsed = parse_tflite(model)
    graph, signature = parsed.subgraphs[0], parsed.signatureDefs[0]
    tensor = _signature_outputs(parsed)[output]
    needed = _ancestors(graph, tensor)
    graph.operators = [op for number, op in enumerate(graph.operators) if number in needed]
    graph.outputs = [tensor]
    signature.outputs = [item for item in signature.outputs if tflite_text(item.name) == output]
    empty_unused(parsed)
    return pack_tflite(parsed)


def empty_unused(parsed: Any) -> None:
    """Empty the constants of a parsed flatbuffer that no operator reads; all indices stay valid."""
    graph = parsed.subgraphs[0]
    used = {int(i) for op in graph.operators for i in (*op.inputs, *op.outputs)} | {int(i) for i in graph.inputs}
    read = {tensor.buffer for number, tensor in enumerate(graph.tensors) if number in used}
    for number, unused in enumerate(graph.tensors):
        if number not in used and unused.buffer:
            if unused.buffer not in read:
                parsed.buffers[unused.buffer].data = None
            unused.buffer = 0


def openvino_operators(model: Any) -> tuple[Operator, ...]:
    """Computing operators of an `openvino.Model`, with the outputs that depend on each."""
    feeds = _openvino_feeds(model)
    return tuple(
        Operator(
            name=node.get_friendly_name(),
            operation=node.get_type_name(),
            branches=frozenset(feeds[node.get_friendly_name()]),
            inputs=tuple(source.get_friendly_name() for source in _sources(node)),
            macs=_openvino_macs(node),
        )
        for node in model.get_ordered_ops()
        if node.get_type_name() not in _PASSIVE and node.get_friendly_name() in feeds
    )


def read_openvino(path: Path) -> Any:
    """Read an `openvino.Model` from a .xml file and the .bin beside it; both may be overwritten afterwards."""
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})
    return core.read_model(path)


def openvino_bytes(model: Any) -> tuple[bytes, bytes]:
    """The bytes of an `openvino.Model`'s .xml and .bin files; `openvino_from_bytes` reads them back."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, str(path), compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def openvino_from_bytes(xml: bytes, weights: bytes) -> Any:
    """An `openvino.Model` from the bytes of its .xml and .bin files."""
    import openvino

    return openvino.Core().read_model(xml, weights)


def store_as_float16(model: Any, names: Set[str]) -> None:
    """Store the float32 kernels of some convolutions of an `openvino.Model` as float16, in place.

    Args:
        model: the model.
        names: of the convolutions; other operators are left as they are.
    """
    import openvino

    for node in model.get_ordered_ops():
        if node.get_friendly_name() not in names or "Convolution" not in node.get_type_name():
            continue
        source = node.input(1)
        kernel = source.get_source_output().get_node()
        if kernel.get_type_name() == "Constant" and kernel.get_element_type() == openvino.Type.f32:
            half = openvino.opset13.constant(kernel.get_data().astype(np.float16))
            source.replace_source_output(openvino.opset13.convert(half, "f32").output(0))
    model.validate_nodes_and_infer_types()


def name_openvino_nodes(model: Any) -> None:
    """Name every node ``<branches>/<type>_<number>``, in execution order, in place.

    The converter's own names come from a counter that goes on from one conversion to the next, so that a recipe
    would not match a second time.
    """
    feeds = _openvino_feeds(model)
    numbers: Counter[str] = Counter()
    for node in model.get_ordered_ops():
        if node.get_type_name() in {"Parameter", "Result"}:
            continue
        branches = "+".join(sorted(feeds.get(node.get_friendly_name(), set())))
        kind = f"{branches}/{node.get_type_name()}"
        node.set_friendly_name(f"{kind}_{numbers[kind]}")
        numbers[kind] += 1


def openvino_tensor(port: Any) -> str:
    """Name of an operator's result: the operator's name; from the second result on with ``:`` and a number.

    The result of an operator and the same with a correction added (`MOVED`) have one name and one range.
    """
    name, number = port.get_node().get_friendly_name().removesuffix(MOVED), port.get_index()
    return f"{name}:{number}" if number else str(name)


def openvino_branch(model: Any, output: str) -> Any:
    """An `openvino.Model` with one of the outputs; it shares its nodes with the given model."""
    import openvino

    result = next(port.get_node() for port in model.outputs if output in port.get_names())
    return openvino.Model([result], model.get_parameters(), f"branch {output}")


def _sources(node: Any) -> list[Any]:
    """The computing nodes that a node reads from."""
    nodes = [port.get_source_output().get_node() for port in node.inputs()]
    return [source for source in nodes if source.get_type_name() not in _PASSIVE]


def _openvino_feeds(model: Any) -> dict[str, set[str]]:
    """Outputs that depend on each node, by friendly name."""
    feeds: dict[str, set[str]] = {}
    for output in model.outputs:
        stack, branch = [output.get_node()], output.get_any_name()
        while stack:
            node = stack.pop()
            fed = feeds.setdefault(node.get_friendly_name(), set())
            if branch not in fed:
                fed.add(branch)
                stack += [port.get_source_output().get_node() for port in node.inputs()]
    return feeds


def _tflite_macs(operation: str, operator: Any, tensors: Sequence[Any]) -> int:
    """Multiply-adds of one call. Kernels are (out, h, w, in), depthwise ones (1, h, w, out), matrices (out, in)."""
    if operation not in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}:
        return 0
    kernel, result = (tensors[int(i)].shape for i in (operator.inputs[1], operator.outputs[0]))
    per_value = kernel[1:3] if operation == "DEPTHWISE_CONV_2D" else kernel[1:]
    return math.prod(map(int, result)) * math.prod(map(int, per_value))


def _openvino_macs(node: Any) -> int:
    """Multiply-adds of one call. Kernels are (out, in, h, w), grouped ones (groups, out, in, h, w)."""
    operation, result = node.get_type_name(), math.prod(node.get_output_shape(0)) if node.get_output_size() else 0
    if operation in {"Convolution", "GroupConvolution"}:
        kernel = node.get_input_shape(1)
        return result * math.prod(kernel[1 if operation == "Convolution" else 2 :])
    if operation == "MatMul":
        return result * node.get_input_shape(0)[-2 if node.get_attributes().get("transpose_a") else -1]
    return 0


def _signature_outputs(parsed: Any) -> dict[str, int]:
    return {tflite_text(item.name): int(item.tensorIndex) for item in parsed.signatureDefs[0].outputs}


def _ancestors(graph: Any, tensor: int) -> set[int]:
    """Numbers of the operators that a tensor depends on."""
    producer: Mapping[int, int] = {int(t): number for number, op in enumerate(graph.operators) for t in op.outputs}
    operators: Sequence[Any] = graph.operators
    found: set[int] = set()
    stack = [tensor]
    while stack:
        number = producer.get(stack.pop())
        if number is not None and number not in found:
            found.add(number)
            stack += [int(i) for i in operators[number].inputs if i >= 0]
    return found
