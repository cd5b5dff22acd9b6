"""Latency of artifacts, and the machine in words. Imports only edge_runtime, so that it runs on the device."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_runtime.backends import Float32Array, default_threads
from edge_runtime.classifier import Classifier
from edge_runtime.latency import Latency, measure, percentiles

__all__ = ["Latency", "classifier_calls", "machine", "measure", "percentiles"]


def classifier_calls(
    classifiers: Mapping[str, Classifier], model_input: Float32Array
) -> dict[str, Callable[[], Any]]:
    """For each artifact, backbone and head on one prepared input: what a frame costs after decode and resize."""

    def call(classifier: Classifier) -> Callable[[], Any]:
        return lambda: classifier.head.run(classifier.backbone.run({"image": model_input}))

    return {name: call(classifier) for name, classifier in classifiers.items()}


def machine(threads: int | None) -> dict[str, Any]:
    """The machine in words: processor, cores, threads used, operating system, CPU frequency governor."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "threads": threads or default_threads(),
        "governor": governor.read_text().strip() if governor.is_file() else "unknown",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
