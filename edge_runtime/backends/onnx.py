"""ONNX files, through ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edge_runtime.backends import Float32Array
from edge_runtime.errors import MissingExtraError, ModelError


class ONNXRunner:
    """See `edge_runtime.backends.Runner`."""

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "onnx") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        failures = (onnxruntime.capi.onnxruntime_pybind11_state.Fail, RuntimeError, ValueError)
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except failures as error:
            raise ModelError(f"{path.name} cannot be run by ONNX Runtime: {error}") from error
        self.input_shapes = {port.name: tuple(port.shape) for port in self._session.get_inputs()}
        self.output_shapes = {port.name: tuple(port.shape) for port in self._session.get_outputs()}
        self.device = {"interpreter": f"onnxruntime {onnxruntime.__version__}", "threads": threads}

    def run(self, inputs: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
        feed = {name: np.ascontiguousarray(inputs[name], np.float32) for name in self.input_shapes}
        return dict(zip(self.output_shapes, self._session.run(list(self.output_shapes), feed), strict=True))
