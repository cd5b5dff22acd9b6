"""Latency and the machine, under the names that other benchmarks use."""

from __future__ import annotations

from typing import Any

from sonoedge.benchmarks.measure import environment
from sonoedge.benchmarks.records.records import to_plain
from sonoedge.edge_runtime.backends import default_threads
from sonoedge.edge_runtime.device.latency import Latency, measure, percentiles

__all__ = ["Latency", "machine", "measure", "percentiles"]


def machine(threads: int | None) -> dict[str, Any]:
    """The machine as plain JSON, with the number of threads used."""
    plain: dict[str, Any] = to_plain(environment.machine())
    return {**plain, "threads": threads or default_threads()}
