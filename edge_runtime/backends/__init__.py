"""Interpreters behind one interface: named float32 arrays in, named float32 arrays out.

A backend looks up tensor names once, when it opens the file. A run sets the inputs, invokes the interpreter and
gets the outputs. Quantized inputs and outputs are converted here and nowhere else: all other code sees float32.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.edge_runtime.types import Float32Array


class Runner(Protocol):
    """An open model file.

    Attributes:
        input_shapes, output_shapes: static shape by tensor name, batch axis included.
        dtypes: as which the file stores its inputs and its outputs, ``float32`` or ``int8``; ``run`` converts.
        device: interpreter, version and precision as executed, for reports.
    """

    input_shapes: dict[str, tuple[int, ...]]
    output_shapes: dict[str, tuple[int, ...]]
    dtypes: tuple[str, str]
    device: dict[str, Any]

    def run(self, inputs: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
        """Run one synchronous inference: float32 arrays by tensor name; the caller owns the returned arrays."""
        ...


def usable_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """The number of CPU cores that this process may use, at most four, the number of a Raspberry Pi."""
    return min(4, usable_cores())


def is_available(runtime: str) -> bool:
    """Whether an interpreter for ``tflite``, ``openvino`` or ``onnx`` is installed; imports no interpreter."""
    modules = {"tflite": ("ai_edge_litert", "tflite_runtime"), "openvino": ("openvino",), "onnx": ("onnxruntime",)}
    return any(importlib.util.find_spec(name) is not None for name in modules[runtime])


def extra_of(runtime: str) -> str:
    """The extra that brings an interpreter to this machine."""
    if runtime == "tflite":
        return "pi32" if is_32_bit() else "litert"
    return {"openvino": "openvino", "onnx": "onnx"}[runtime]


def no_wheel(runtime: str) -> str:
    """Why no extra brings the interpreter to this machine, and what to do; empty if an extra does.

    The last tflite-runtime with wheels for 32-bit Arm, 2.14.0, has them up to Python 3.11.
    """
    if runtime != "tflite" or not is_32_bit() or sys.version_info < (3, 12):
        return ""
    python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    return (
        f"There is no TensorFlow Lite for {python} on a 32-bit system: use a 64-bit system, "
        "or a 32-bit one with Python 3.11 (Debian 12, Raspberry Pi OS Bookworm)."
    )


def is_32_bit() -> bool:
    """Whether this Python is a 32-bit program; a 64-bit kernel often runs one."""
    return sys.maxsize < 2**32


def open_model(path: Path, runtime: str, *, threads: int | None = None) -> Runner:
    """Open a model file with the interpreter of its runtime.

    Args:
        path: ``.tflite``, ``.xml`` (OpenVINO, ``.bin`` beside it) or ``.onnx``.
        runtime: ``tflite``, ``openvino`` or ``onnx``.
        threads: for the interpreter; None or 0 takes `default_threads`.

    Raises:
        MissingExtraError: no interpreter for that runtime is installed.
        ModelError: the interpreter refuses the file, or the runtime is unknown.
    """
    threads = threads or default_threads()
    if runtime == "tflite":
        from sonoedge.edge_runtime.backends.tflite import TFLiteRunner

        return TFLiteRunner(path, threads)
    if runtime == "openvino":
        from sonoedge.edge_runtime.backends.openvino import OpenVINORunner

        return OpenVINORunner(path, threads)
    if runtime == "onnx":
        from sonoedge.edge_runtime.backends.onnx import ONNXRunner

        return ONNXRunner(path, threads)
    raise ModelError(f"Unknown runtime {runtime!r}. Known: tflite, openvino, onnx.")
