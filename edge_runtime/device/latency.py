"""Single-stream latency: percentiles over calls made one at a time, with candidates in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

WARM_UP = 3
TAIL_CALLS = 3
"""A percentile is given only if this many calls lie beyond it: p90 needs 30 calls, p99 needs 300."""


@dataclass(frozen=True)
class Latency:
    """Percentiles in milliseconds over ``runs`` calls, one at a time; None if the calls are too few."""

    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    runs: int


def percentiles(seconds: Sequence[float]) -> Latency:
    """Summarise wall-clock seconds, at least one."""
    p50, p90, p99 = (round(float(value), 3) for value in 1e3 * np.percentile(seconds, [50, 90, 99]))
    count = len(seconds)
    return Latency(
        p50,
        p90 if supports(90, count) else None,
        p99 if supports(99, count) else None,
        count,
    )


def supports(percent: int, count: int) -> bool:
    """Whether ``count`` calls are enough for percentile ``percent``."""
    return count * (100 - percent) >= TAIL_CALLS * 100


def measure(candidates: Mapping[str, Callable[[], Any]], *, runs: int, rounds: int = 5) -> dict[str, Latency]:
    """Time several calls in interleaved rounds, so that a slow minute of the machine falls on all of them.

    Args:
        candidates: by name, a call that does one inference.
        runs: timed calls of each candidate, in all.
        rounds: in how many rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        for _ in range(WARM_UP):
            call()
    for turn in range(rounds):
        share = runs // rounds + (1 if turn < runs % rounds else 0)
        for name, call in candidates.items():
            call()  # brings code and weights back into the caches
            seconds[name] += time_calls(call, min_calls=share)
    return {name: percentiles(values) for name, values in seconds.items()}


def time_calls(call: Callable[[], Any], *, min_calls: int, min_seconds: float = 0.0) -> list[float]:
    """Wall-clock seconds of single calls: at least ``min_calls`` calls that take ``min_seconds`` together."""
    seconds: list[float] = []
    total = 0.0
    while len(seconds) < min_calls or total < min_seconds:
        start = perf_counter()
        call()
        seconds.append(perf_counter() - start)
        total += seconds[-1]
    return seconds
