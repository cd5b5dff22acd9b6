"""Accuracy, size and latency of every artifact, compared with the full model.

from sonoedge.benchmarks import benchmark
report = benchmark("bundle", "BUSI", model="runs/mine", out="report")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonoedge.benchmarks.api import benchmark, write_report
    from sonoedge.benchmarks.experiments.ablation import Ablation, cross_validate
    from sonoedge.benchmarks.explanations.explain import benchmark_explain
    from sonoedge.benchmarks.explanations.report import ExplanationReport
    from sonoedge.benchmarks.report.written import BenchmarkReport, ReportRow

# `report` is a sub-package: the function that stands for this command has a verb for its name.
__all__ = [
    "Ablation",
    "BenchmarkReport",
    "ExplanationReport",
    "ReportRow",
    "benchmark",
    "benchmark_explain",
    "cross_validate",
    "write_report",
]
_HOME = {
    "api": ("benchmark", "write_report"),
    "experiments.ablation": ("Ablation", "cross_validate"),
    "explanations.explain": ("benchmark_explain",),
    "explanations.report": ("ExplanationReport",),
    "report.written": ("BenchmarkReport", "ReportRow"),
}


def __getattr__(name: str) -> Any:
    """A public name, from its module, which is only imported now: a device measures without `train`."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"sonoedge.benchmarks.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
