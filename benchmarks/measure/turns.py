"""Timing a cascade: frames take turns, one of which its cheap model is sure and one for which both are asked.

Each round starts with the former. The average over images follows from the share that escalates, so that timing
needs no images and the share no timing. Standard library only: it runs on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from statistics import median
from typing import Any

from sonoedge.benchmarks.records.runfile import Timing


@dataclass(frozen=True)
class Turns:
    """Median milliseconds of a frame that the cheap model decides, and of one for which both are asked."""

    sure_ms: float
    both_ms: float

    def average_ms(self, escalated: float) -> float:
        """Over images of which that share, 0-1, asks both."""
        return self.sure_ms + escalated * (self.both_ms - self.sure_ms)


def in_turns(sure: Callable[[], Any], both: Callable[[], Any]) -> Callable[[], Any]:
    """A call that does the one and the other, in turns."""
    calls = cycle((sure, both))
    return lambda: next(calls)()


def turns(rounds: Sequence[Sequence[float]]) -> Turns:
    """The medians over rounds of samples, each of which began with a sure frame and has both kinds."""
    return Turns(
        median(ms for samples in rounds for ms in samples[::2]),
        median(ms for samples in rounds for ms in samples[1::2]),
    )


def rounds_of(timing: Timing) -> list[tuple[float, ...]]:
    """The samples by round; rounds without any are left out."""
    found, start = [], 0
    for size in timing.round_sizes:
        if size:
            found.append(timing.samples_ms[start : start + size])
        start += size
    return found


def round_ms(timing: Timing, escalated: float | None) -> list[float]:
    """`typical_ms` of each round by itself: their spread is the noise."""
    if escalated is None:
        return [median(samples) for samples in rounds_of(timing)]
    return [turns([samples]).average_ms(escalated) for samples in rounds_of(timing)]


def typical_ms(timing: Timing, escalated: float | None) -> float:
    """What one frame takes: the median; of a cascade the average over its images."""
    if escalated is None:
        return median(timing.samples_ms)
    return turns(rounds_of(timing)).average_ms(escalated)
