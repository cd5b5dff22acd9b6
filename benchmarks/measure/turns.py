"""Timing a cascade: a frame that the cheap model decides and a frame for which both models are asked, in turns.

Each round starts with a frame that the cheap model decides. The average over images follows from the share of
images that ask both models. Timing therefore needs no images, and measuring the share needs no timing. Standard
library only: this runs on a device.
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
    """Median milliseconds of a frame that the cheap model decides, and of a frame for which both are asked."""

    sure_ms: float
    both_ms: float

    def average_ms(self, escalated: float) -> float:
        """Average milliseconds over images, if the share ``escalated`` (0–1) of them asks both models."""
        return self.sure_ms + escalated * (self.both_ms - self.sure_ms)


def in_turns(sure: Callable[[], Any], both: Callable[[], Any]) -> Callable[[], Any]:
    """A function that calls ``sure`` and ``both`` in turns."""
    calls = cycle((sure, both))
    return lambda: next(calls)()


def turns(rounds: Sequence[Sequence[float]]) -> Turns:
    """The medians over rounds of samples (ms); each round starts with a sure frame and has both kinds."""
    return Turns(
        median(ms for samples in rounds for ms in samples[::2]),
        median(ms for samples in rounds for ms in samples[1::2]),
    )


def rounds_of(timing: Timing) -> list[tuple[float, ...]]:
    """The samples in milliseconds by round; empty rounds are left out."""
    found, start = [], 0
    for size in timing.round_sizes:
        if size:
            found.append(timing.samples_ms[start : start + size])
        start += size
    return found


def round_ms(timing: Timing, escalated: float | None) -> list[float]:
    """`typical_ms` of each round; the spread of these is the noise."""
    if escalated is None:
        return [median(samples) for samples in rounds_of(timing)]
    return [turns([samples]).average_ms(escalated) for samples in rounds_of(timing)]


def typical_ms(timing: Timing, escalated: float | None) -> float:
    """Milliseconds of one frame: the median; for a cascade the average over images.

    ``escalated`` is the share of images that ask both models of a cascade; None for other candidates.
    """
    if escalated is None:
        return median(timing.samples_ms)
    return turns(rounds_of(timing)).average_ms(escalated)
