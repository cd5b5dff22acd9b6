"""TensorFlow Lite files, through ``ai-edge-litert`` or, on 32-bit boards, ``tflite-runtime``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from sonoedge.edge_runtime.backends import extra_of, no_wheel
from sonoedge.edge_runtime.backends.flatbuffer import check_tflite
from sonoedge.edge_runtime.errors import MissingExtraError, ModelError
from sonoedge.edge_runtime.types import Float32Array


def load_interpreter_class() -> tuple[type[Any], str]:
    """The interpreter class that is installed, and ``"<package> <version>"``.

    Raises:
        MissingExtraError: neither package is installed.
    """
    for package in ("ai-edge-litert", "tflite-runtime"):
        try:
            module = import_module(f"{package.replace('-', '_')}.interpreter")
        except ImportError:
            continue
        return module.Interpreter, f"{package} {version(package)}"
    package = "ai-edge-litert" if extra_of("tflite") == "litert" else "tflite-runtime"
    raise MissingExtraError(package, extra_of("tflite"), no_wheel("tflite"))


class TFLiteRunner:
    """An open TFLite file; see `edge_runtime.backends.Runner`. Tensors have the names of the file's only signature.

    Raises:
        MissingExtraError: no interpreter is installed.
        ModelError: `check_tflite` or the interpreter refuses the file.
    """

    def __init__(self, path: Path, threads: int) -> None:
        interpreter_class, package = load_interpreter_class()
        # From memory, not from the path: the checked bytes are the bytes that run.
        content = path.read_bytes()
        check_tflite(content, path.name)
        try:
            self._interpreter = interpreter_class(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
            signature = self._interpreter.get_signature_runner()
            inputs, outputs = signature.get_input_details(), signature.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{path.name} cannot be run by {package}: {error}") from error
        self._inputs = {name: _Tensor(detail) for name, detail in inputs.items()}
        self._outputs = {name: _Tensor(detail) for name, detail in outputs.items()}
        self.input_shapes = {name: tensor.shape for name, tensor in self._inputs.items()}
        self.output_shapes = {name: tensor.shape for name, tensor in self._outputs.items()}
        self.dtypes = (_common_type(self._inputs), _common_type(self._outputs))
        self.device = {"interpreter": package, "threads": threads}

    def run(self, inputs: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
        """See `edge_runtime.backends.Runner`; integer inputs are quantized here, integer outputs dequantized."""
        for name, tensor in self._inputs.items():
            self._interpreter.set_tensor(tensor.index, tensor.quantize(inputs[name]))
        self._interpreter.invoke()
        return {
            name: tensor.dequantize(self._interpreter.get_tensor(tensor.index))
            for name, tensor in self._outputs.items()
        }


def _common_type(tensors: Mapping[str, _Tensor]) -> str:
    return "+".join(sorted({tensor.dtype.name for tensor in tensors.values()}))


class _Tensor:
    """Index, shape and, for integer tensors, the affine map real = scale * (stored - zero_point)."""

    def __init__(self, detail: Mapping[str, Any]) -> None:
        self.index = int(detail["index"])
        self.shape = tuple(int(size) for size in detail["shape"])
        self.dtype = np.dtype(detail["dtype"])
        scale, zero_point = detail["quantization"]
        self.scale, self.zero_point = np.float32(scale), np.float32(zero_point)
        if self.dtype != np.float32 and not scale:
            raise ModelError(f"Tensor {detail['name']} is {self.dtype} without a scale.")

    def quantize(self, value: Float32Array) -> Any:
        if self.dtype == np.float32:
            return np.ascontiguousarray(value, dtype=np.float32)
        limits = np.iinfo(self.dtype)
        # Round before the cast: a cast alone truncates towards zero and shifts every value by half a step.
        stored = np.rint(value / self.scale + self.zero_point)
        return np.clip(stored, limits.min, limits.max).astype(self.dtype)

    def dequantize(self, stored: Any) -> Float32Array:
        if self.dtype == np.float32:
            return np.asarray(stored)
        return (stored.astype(np.float32) - self.zero_point) * self.scale
