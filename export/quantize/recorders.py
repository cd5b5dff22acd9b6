"""Interpreters that give the result of every operator of a float32 backbone, and the tensors that two share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from sonoedge.edge_runtime.backends import default_threads
from sonoedge.edge_runtime.errors import ModelError
from sonoedge.export.convert.graphs import openvino_tensor, pack_tflite, parse_tflite, tflite_text
from sonoedge.train.quiet import quiet

Float = NDArray[np.float32]
_SAME = 1e-3
"""Largest difference between two tensors' figures from `_described`, relative to the largest figure."""


class Recorder(Protocol):
    """Runs images and gives the results of the operators.

    Attributes:
        names: of T tensors.
    """

    names: tuple[str, ...]

    def values(self, model_input: Float) -> list[Float]:
        """The T tensors, flat, for an input float32 (1, height, width, 3), 0–255.

        They may be views of the interpreter's memory: drop them before the next call.
        """
        ...


class TFLiteRecorder:
    """All tensors of a flatbuffer, the image first: each operator's result becomes an output of the graph.

    The interpreter can preserve tensors itself, but then it leaves out XNNPACK's kernels, and is slower.
    """

    def __init__(self, model: bytes, threads: int | None = None) -> None:
        parsed = parse_tflite(model)
        graph = parsed.subgraphs[0]
        results = [int(i) for op in graph.operators for i in op.outputs if i >= 0]
        self._indices = [int(i) for i in graph.inputs] + results
        self.names = tuple(tflite_text(graph.tensors[i].name) for i in self._indices)
        graph.outputs, parsed.signatureDefs = results, []
        with quiet():
            try:
                self._interpreter = Interpreter(
                    model_content=pack_tflite(parsed), num_threads=threads or default_threads()
                )
                self._interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise ModelError(f"The float backbone cannot be run for calibration: {error}") from error
        self._views = [self._interpreter.tensor(i) for i in self._indices]

    def values(self, model_input: Float) -> list[Float]:
        """See `Recorder.values`."""
        self._interpreter.set_tensor(self._indices[0], model_input)
        self._interpreter.invoke()
        # Views, not copies: 40 M values a frame.
        return [view().reshape(-1) for view in self._views]


class OpenVINORecorder:
    """Some tensors of an `openvino.Model`, by the names that `export.convert.graphs.openvino_tensor` gives them."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        self.names, self._model = tuple(names), model

    @cached_property
    def _compiled(self) -> Any:
        import openvino

        ports = {openvino_tensor(port): port for node in self._model.get_ordered_ops() for port in node.outputs()}
        wanted = openvino.Model([ports[name] for name in self.names], self._model.get_parameters(), "recorder")
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": default_threads()}
        return openvino.Core().compile_model(wanted, "CPU", options)

    def only(self, names: Sequence[str]) -> OpenVINORecorder:
        """A recorder of other tensors of the same model."""
        return OpenVINORecorder(self._model, names)

    def values(self, model_input: Float) -> list[Float]:
        """See `Recorder.values`."""
        found = self._compiled(model_input)
        return [np.asarray(found[i]).reshape(-1) for i in range(len(self.names))]


def same_tensors(ours: Recorder, theirs: Recorder, inputs: Sequence[Float]) -> dict[str, str]:
    """Find the tensors of two runtimes that hold the same values, in any layout.

    Two runtimes run the same backbone with other names and another order of axes. Two tensors count as the same if
    they have as many values, and if smallest value, largest value, mean and spread agree on all inputs.

    Args:
        ours, theirs: recorders of one backbone.
        inputs: float32 (1, height, width, 3), 0–255, at least one.

    Returns:
        Name in ``ours`` -> name in ``theirs``; a tensor without an equal is left out.
    """
    mine, others = (_described(recorder, inputs) for recorder in (ours, theirs))
    found = {}
    for name, own in mine.items():
        scale = np.abs(own[:, 1:]).max() or 1.0
        distances = {
            other: float(np.abs(own[:, 1:] - described[:, 1:]).max() / scale)
            for other, described in others.items()
            if (own[:, 0] == described[:, 0]).all()
        }
        nearest = min(distances, key=lambda other: distances[other], default=None)
        if nearest is not None and distances[nearest] <= _SAME:
            found[name] = nearest
    return found


def _described(recorder: Recorder, inputs: Sequence[Float]) -> dict[str, NDArray[np.float64]]:
    """By tensor (inputs, 5): number of values, smallest, largest, mean, standard deviation."""

    def rows(model_input: Float) -> list[list[float]]:
        values = recorder.values(model_input)
        return [[v.size, v.min(), v.max(), v.mean(), v.std()] for v in values]

    table = np.array([rows(model_input) for model_input in inputs], np.float64)
    return {name: table[:, i] for i, name in enumerate(recorder.names)}
