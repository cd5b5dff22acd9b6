"""ONNX files, through ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sonoedge.edge_runtime.errors import MissingExtraError, ModelError
from sonoedge.edge_runtime.types import Float32Array


class ONNXRunner:
    """An open ONNX file; see `edge_runtime.backends.Runner`.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        ModelError: ONNX Runtime refuses the file or, in `run`, the inputs.
    """

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "onnx") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._name, self._failures = path.name, _failures()
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except self._failures as error:
            raise self._refused(error) from error
        self.input_shapes = {port.name: tuple(port.shape) for port in self._session.get_inputs()}
        self.output_shapes = {port.name: tuple(port.shape) for port in self._session.get_outputs()}
        self.dtypes = ("float32", "float32")
        self.device = {"interpreter": f"onnxruntime {onnxruntime.__version__}", "threads": threads}

    def run(self, inputs: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
        """See `edge_runtime.backends.Runner`."""
        feed = {name: np.ascontiguousarray(inputs[name], np.float32) for name in self.input_shapes}
        try:
            results = self._session.run(list(self.output_shapes), feed)
        except self._failures as error:
            raise self._refused(error) from error
        return dict(zip(self.output_shapes, results, strict=True))

    def _refused(self, error: Exception) -> ModelError:
        first = str(error).partition("\n")[0][:300]
        return ModelError(f"{self._name} cannot be run by ONNX Runtime: {first}")


def _failures() -> tuple[type[Exception], ...]:
    """The classes that ONNX Runtime raises: one for each status code; their only common base is ``Exception``."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [item for item in vars(state).values() if isinstance(item, type) and issubclass(item, Exception)]
    return (*own, RuntimeError, ValueError)
