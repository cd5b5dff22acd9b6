"""OpenVINO IR files (``.xml`` with ``.bin``) on the CPU plugin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sonoedge.edge_runtime.errors import MissingExtraError, ModelError
from sonoedge.edge_runtime.types import Float32Array


@cache
def _core() -> Any:
    """One core for the life of the process.

    Without a core, the CPU plugin is unloaded with its last model, but its SIGTERM handler stays installed. The
    next SIGTERM would then jump into unloaded code and crash (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


class OpenVINORunner:
    """An open OpenVINO model; see `edge_runtime.backends.Runner`.

    ``device["executed"]`` counts convolutions and dense layers by the precision in which they run.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        ModelError: OpenVINO refuses the file.
    """

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import openvino
            from openvino import properties
        except ImportError as error:
            raise MissingExtraError("openvino", "openvino") from error
        core = _core()
        options = {
            properties.inference_num_threads(): threads,
            properties.hint.performance_mode(): properties.hint.PerformanceMode.LATENCY,
            # Without this the plugin may run a float32 file in bfloat16 on new servers, with other results.
            properties.hint.inference_precision(): openvino.Type.f32,
        }
        try:
            model = core.compile_model(core.read_model(path), "CPU", options)
        except RuntimeError as error:
            raise ModelError(f"{path.name} cannot be run by OpenVINO: {error}") from error
        self._request = model.create_infer_request()
        self._inputs = {port.get_any_name(): port for port in model.inputs}
        # By every name: OpenVINO merges equal outputs (a fused map of one branch) into one tensor with two names.
        self._outputs = {name: port for port in model.outputs for name in sorted(port.get_names())}
        self.input_shapes = {name: tuple(port.shape) for name, port in self._inputs.items()}
        self.output_shapes = {name: tuple(port.shape) for name, port in self._outputs.items()}
        executed = Counter(
            str(node.get_rt_info()["runtimePrecision"].astype(str))
            for node in model.get_runtime_model().get_ordered_ops()
            if node.get_rt_info()["layerType"].astype(str) in {"Convolution", "FullyConnected", "MatMul"}
        )
        self.dtypes = ("float32", "float32")
        self.device = {
            "interpreter": f"openvino {openvino.__version__}",
            "threads": threads,
            "executed": dict(executed),
        }

    def run(self, inputs: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
        """See `edge_runtime.backends.Runner`."""
        # share_inputs avoids a copy: the array outlives this synchronous call.
        results = self._request.infer(
            {port: np.ascontiguousarray(inputs[name], np.float32) for name, port in self._inputs.items()},
            share_inputs=True,
        )
        return {name: np.array(results[port], np.float32) for name, port in self._outputs.items()}
