"""All intermediate results of a backbone, by operator name, for the layer report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.backends import default_threads
from sonoedge.edge_runtime.errors import ModelError
from sonoedge.export.convert.graphs import parse_tflite, tflite_text
from sonoedge.train.quiet import quiet

Float = NDArray[np.float32]


class Tensors(Protocol):
    """An open backbone that gives its intermediate results.

    Attributes:
        names: of the operators whose results it gives.
        limits: smallest and largest value that a quantized tensor can hold, by operator name.
    """

    names: tuple[str, ...]
    limits: dict[str, tuple[float, float]]

    def run(self, model_input: Float) -> None:
        """Run one inference on an input float32 (1, height, width, 3), 0–255; `value` then gives the results."""
        ...

    def value(self, name: str) -> Float:
        """An operator's result in real units, float32. Take one at a time: all together are 160 MB."""
        ...


def open_tensors(path: Path, runtime: str, names: Sequence[str]) -> Tensors:
    """Open a backbone.

    Args:
        path: its file.
        runtime: ``tflite`` or ``openvino``.
        names: of the wanted operators; those that the file lacks are left out.

    Raises:
        ModelError: the interpreter refuses the file.
    """
    return _TFLiteTensors(path, names) if runtime == "tflite" else _OpenVINOTensors(path, names)


class _TFLiteTensors:
    def __init__(self, path: Path, names: Sequence[str]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        model = path.read_bytes()
        graph = parse_tflite(model).subgraphs[0]
        index = {tflite_text(tensor.name): number for number, tensor in enumerate(graph.tensors)}
        with quiet():
            try:
                self._interpreter = Interpreter(
                    model_content=model, num_threads=default_threads(), experimental_preserve_all_tensors=True
                )
                self._interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise ModelError(f"{path.name} cannot be run for the layer report: {error}") from error
        details = {int(detail["index"]): detail for detail in self._interpreter.get_tensor_details()}
        self._input = int(graph.inputs[0])
        # Pixels are exact in an integer input: its scale is 1.
        self._input_type, self._input_zero = details[self._input]["dtype"], details[self._input]["quantization"][1]
        self._tensors: dict[str, tuple[int, float, int]] = {}
        self.limits: dict[str, tuple[float, float]] = {}
        for name in names:
            number = index.get(name.rstrip(";"))
            if number is None:
                continue
            scale, zero = details[number]["quantization"]
            self._tensors[name] = (number, float(scale), int(zero))
            if scale:
                ends = np.iinfo(details[number]["dtype"])
                # Half a step more: what rounds to the last value is not clipped.
                self.limits[name] = (scale * (ends.min - zero - 0.5), scale * (ends.max - zero + 0.5))
        self.names = tuple(self._tensors)

    def run(self, model_input: Float) -> None:
        if self._input_type != np.float32:
            model_input = np.rint(model_input + self._input_zero).astype(self._input_type)
        self._interpreter.set_tensor(self._input, model_input)
        self._interpreter.invoke()

    def value(self, name: str) -> Float:
        number, scale, zero = self._tensors[name]
        stored = np.asarray(self._interpreter.get_tensor(number))
        return (stored.astype(np.float32) - zero) * np.float32(scale) if scale else stored


class _OpenVINOTensors:
    def __init__(self, path: Path, names: Sequence[str]) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        wanted = set(names)
        nodes = [node for node in model.get_ordered_ops() if node.get_friendly_name() in wanted]
        self.limits = _fake_quantize_limits(nodes)
        results = [node.output(0) for node in nodes]
        extended = openvino.Model(results, model.get_parameters(), "all results")
        self._model = core.compile_model(extended, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self.names = tuple(node.get_friendly_name() for node in nodes)
        self._results: dict[str, Any] = {}

    def run(self, model_input: Float) -> None:
        results = self._model([model_input], share_outputs=True)
        self._results = {name: results[i] for i, name in enumerate(self.names)}

    def value(self, name: str) -> Float:
        return np.asarray(self._results[name], np.float32)


def _fake_quantize_limits(nodes: Sequence[Any]) -> dict[str, tuple[float, float]]:
    """Range of the quantizer that reads a node's result, by the node's name; nodes without one are left out."""
    limits = {}
    for node in nodes:
        for target in node.output(0).get_target_inputs():
            reader = target.get_node()
            if reader.get_type_name() == "FakeQuantize":
                low, high = (reader.input_value(port).get_node().get_data() for port in (1, 2))
                limits[node.get_friendly_name()] = (float(np.min(low)), float(np.max(high)))
    return limits
