"""Single-stream latency: percentiles of calls made one at a time, interleaved between candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

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
