"""Quantizers behind one interface: the accuracy guard builds candidates without knowing the runtime.

A quantizer holds a float backbone and calibration images, knows the backbone's operators and the branches they
feed, and builds a quantized file in which chosen operators stay in float. What takes long is kept in a
content-addressed cache, so that an interrupted export goes on and a repeated one is quick.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.files import sha256_bytes, write_bytes_atomic
from export.calibration import CalibrationSet
from export.recipes import Operator

Ranges = dict[str, dict[str, NDArray[np.float32]]]


class Quantizer(Protocol):
    """A float backbone that can be built with any set of its operators kept in float.

    Attributes:
        runtime, suffix: of the files it builds.
        operators: in execution order.
        cheap: whether a build takes well under a second once calibrated, so that a search over operators pays.
    """

    runtime: str
    suffix: str
    operators: tuple[Operator, ...]
    cheap: bool

    def build(self, path: Path, keep_float: frozenset[str], base: str = "w8a8") -> None:
        """Write the backbone, quantized except for the named operators; all of them gives the float file."""
        ...


class TFLiteQuantizer:
    """LiteRT post-training quantization of a float32 flatbuffer; one calibration serves every recipe."""

    runtime, suffix, cheap = "tflite", ".tflite", True

    def __init__(
        self,
        float_model: bytes,
        calibration: CalibrationSet,
        size: tuple[int, int],
        *,
        cache: Path,
        progress: bool,
    ) -> None:
        self._model = float_model
        self.operators = tflite_operators(float_model)
        self._calibration, self._size, self._progress = calibration, size, progress
        self._cache = cache
        self._ranges: dict[str, Ranges] = {}

    def build(self, path: Path, keep_float: frozenset[str], base: str = "w8a8") -> None:
        from export.quantization import quantize_tflite, static_recipe

        if keep_float >= {operator.name for operator in self.operators}:
            write_bytes_atomic(path, self._model)
            return
        rules = static_recipe(base)
        everything = rules[0]
        if keep_float:
            from litert_quantizer.recipe import AlgorithmName

            # Chunks keep each regular expression below the matcher's comfort limit.
            names = sorted(keep_float)
            rules += [
                {**everything, "regex": regex, "algorithm_key": AlgorithmName.NO_QUANTIZE}
                for regex in _alternations(names)
            ]
        write_bytes_atomic(path, quantize_tflite(self._model, self.ranges(base), rules))

    def ranges(self, base: str = "w8a8") -> Ranges:
        """Recorded activation ranges by tensor name."""
        if base not in self._ranges:
            self._ranges[base] = self._cached_ranges(base)
        return self._ranges[base]

    def _cached_ranges(self, base: str) -> Ranges:
        from export.quantization import CALIBRATION_VERSION, calibrate_tflite

        key = sha256_bytes(
            f"{CALIBRATION_VERSION} {base} {sha256_bytes(self._model)} {self._calibration.digest}".encode()
        )
        path = self._cache / f"ranges-{key[:32]}.npz"
        if path.is_file():
            return _unpack(path.read_bytes())
        found = calibrate_tflite(
            self._model,
            self._calibration.inputs(self._size),
            len(self._calibration.paths),
            base=base,
            progress=self._progress,
        )
        write_bytes_atomic(path, _pack(found))
        return found


class OpenVINOQuantizer:
    """NNCF post-training quantization of an `openvino.Model`; operators are kept in float by ignored scopes."""

    runtime, suffix, cheap = "openvino", ".xml", False

    def __init__(
        self,
        load: Callable[[], Any],
        digest: str,
        calibration: CalibrationSet,
        size: tuple[int, int],
        *,
        cache: Path,
    ) -> None:
        self._load, self._digest = load, digest
        self._calibration, self._size, self._cache = calibration, size, cache
        self.operators = openvino_operators(load())

    def build(self, path: Path, keep_float: frozenset[str], base: str = "w8a8") -> None:
        from export.conversion import save_openvino
        from export.quantization import CALIBRATION_VERSION, quantize_openvino

        described = [CALIBRATION_VERSION, base, self._digest, self._calibration.digest, sorted(keep_float)]
        cached = self._cache / f"openvino-{sha256_bytes(json.dumps(described).encode())[:32]}"
        if not (cached / path.name).is_file():
            model = self._load()
            if not keep_float >= {operator.name for operator in self.operators}:
                inputs = list(self._calibration.inputs(self._size))
                model = quantize_openvino(model, inputs, ignored=sorted(keep_float))
            partial = cached.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            save_openvino(model, partial / path.name)
            shutil.rmtree(cached, ignore_errors=True)
            partial.rename(cached)
        for file in cached.iterdir():
            shutil.copyfile(file, path.with_name(file.name))


def tflite_operators(model: bytes) -> tuple[Operator, ...]:
    """Operators of a flatbuffer and the signature outputs that depend on each."""
    from ai_edge_litert import schema_py_generated as schema
    from litert_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(model)))
    graph = parsed.subgraphs[0]
    codes = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    signature = parsed.signatureDefs[0]
    outputs = {_text(item.name): item.tensorIndex for item in signature.outputs}
    producer = {int(tensor): i for i, op in enumerate(graph.operators) for tensor in op.outputs}
    reached = {name: _ancestors(tensor, producer, graph.operators) for name, tensor in outputs.items()}
    return tuple(
        Operator(
            name=flatbuffer.get_op_scope(op, graph.tensors),
            operation=codes[parsed.operatorCodes[op.opcodeIndex].builtinCode],
            branches=frozenset(name for name, found in reached.items() if i in found),
        )
        for i, op in enumerate(graph.operators)
    )


def openvino_operators(model: Any) -> tuple[Operator, ...]:
    """Computing operators of an `openvino.Model` and the outputs that depend on each."""
    reached: dict[str, set[str]] = {}
    for output in model.outputs:
        found: set[str] = set()
        stack = [output.get_node()]
        while stack:
            node = stack.pop()
            if node.get_friendly_name() not in found:
                found.add(node.get_friendly_name())
                stack += [port.get_source_output().get_node() for port in node.inputs()]
        reached[output.get_any_name()] = found
    passive = {"Constant", "Parameter", "Result", "Convert"}
    return tuple(
        Operator(
            name=node.get_friendly_name(),
            operation=node.get_type_name(),
            branches=frozenset(name for name, found in reached.items() if node.get_friendly_name() in found),
        )
        for node in model.get_ordered_ops()
        if node.get_type_name() not in passive
    )


def _ancestors(tensor: int, producer: Mapping[int, int], operators: Sequence[Any]) -> set[int]:
    found: set[int] = set()
    stack = [int(tensor)]
    while stack:
        index = producer.get(stack.pop())
        if index is not None and index not in found:
            found.add(index)
            stack += [int(i) for i in operators[index].inputs if i >= 0]
    return found


def _alternations(names: Sequence[str], chunk: int = 40) -> list[str]:
    import re

    groups = [names[i : i + chunk] for i in range(0, len(names), chunk)]
    return [f"^(?:{'|'.join(re.escape(name) for name in group)})$" for group in groups]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _pack(ranges: Ranges) -> bytes:
    buffer = io.BytesIO()
    names = sorted(ranges)
    arrays: dict[str, Any] = {"names": np.array(names)}
    for i, name in enumerate(names):
        arrays |= {f"{i}.{key}": value for key, value in ranges[name].items()}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _unpack(data: bytes) -> Ranges:
    with np.load(io.BytesIO(data)) as archive:
        names = archive["names"].tolist()
        ranges: Ranges = {name: {} for name in names}
        for entry in archive.files:
            index, _, key = entry.partition(".")
            if key:
                ranges[names[int(index)]][key] = archive[entry]
    return ranges
