"""Single-stream latency. Imports only edge_runtime and NumPy, so that it runs on the device."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edge_runtime.backends import Float32Array, default_threads
from edge_runtime.classifier import Classifier

WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """Percentiles in milliseconds over ``runs`` calls, one at a time."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    runs: int


def percentiles(seconds: Sequence[float]) -> Latency:
    """Summarise wall-clock seconds."""
    p50, p90, p99 = (round(float(value), 3) for value in 1e3 * np.percentile(seconds, [50, 90, 99]))
    return Latency(p50, p90, p99, len(seconds))


def measure(candidates: Mapping[str, Callable[[], Any]], *, runs: int, rounds: int = 5) -> dict[str, Latency]:
    """Time several calls in interleaved rounds, so that a slow minute of the machine falls on all of them.

    Args:
        candidates: by name, a call that does one inference.
        runs: calls of each, in all.
        rounds: how often to go round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        for _ in range(WARM_UP):
            call()
    for turn in range(rounds):
        share = runs // rounds + (1 if turn < runs % rounds else 0)
        for name, call in candidates.items():
            call()  # brings code and weights back into the caches
            for _ in range(share):
                start = perf_counter()
                call()
                seconds[name].append(perf_counter() - start)
    return {name: percentiles(values) for name, values in seconds.items()}


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
