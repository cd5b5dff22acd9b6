"""The time of one frame: percentiles of a timing, the average of a cascade, the ratio to another candidate."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from sonoedge.benchmarks.measure.turns import round_ms, rounds_of, turns, typical_ms
from sonoedge.benchmarks.records.runfile import Candidate, Run, Timing
from sonoedge.edge_runtime.device.latency import Latency, percentiles
from sonoedge.train.evaluation.intervals import Interval, clopper_pearson


@dataclass(frozen=True)
class Speed:
    """Latency of a candidate.

    ``typical_ms`` is the figure for comparisons: the median; for a cascade, which has no percentiles here, the
    average over images. ``low_ms`` and ``high_ms`` are the lowest and highest figure of a round (noise).
    """

    threads: int
    queries: int
    typical_ms: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class CascadeCost:
    """What a cascade saves: milliseconds where the cheap model decides, where both are asked, and on average.

    ``escalated`` is the share of images for which both models are asked; its interval is exact and by group if
    images were scored, else 0–1.
    """

    escalated: Interval
    sure_ms: float | None
    worst_ms: float | None
    average_ms: float | None


def speed(timing: Timing | None, escalated: float | None = None) -> Speed | None:
    """Percentiles of a timing, None without one; ``escalated`` is the share of images that ask both models."""
    if timing is None:
        return None
    each = round_ms(timing, escalated)
    low, high = round(min(each), 3), round(max(each), 3)
    if escalated is not None:
        typical = round(typical_ms(timing, escalated), 3)
        return Speed(timing.threads, len(timing.samples_ms), typical, None, None, None, low, high)
    found: Latency = percentiles([ms / 1e3 for ms in timing.samples_ms])
    return Speed(timing.threads, found.runs, found.p50_ms, found.p50_ms, found.p90_ms, found.p99_ms, low, high)


def cascade_cost(run: Run, c: Candidate) -> CascadeCost | None:
    """What a cascade saves; None for other candidates."""
    if c.escalated is None:
        return None
    share = Interval(c.escalated, 0.0, 1.0)
    if run.data is not None and c.logits is not None:
        # The record does not say which images were escalated: count as many trials as groups.
        units = len({image.group for image in run.data.images})
        found_share = clopper_pearson(c.escalated * units, units)
        share = Interval(c.escalated, found_share.low, found_share.high)
    if c.timing is None:
        return CascadeCost(share, None, None, None)
    found = turns(rounds_of(c.timing))
    average = found.average_ms(c.escalated)
    return CascadeCost(share, *(round(ms, 3) for ms in (found.sure_ms, found.both_ms, average)))


def time_ratio(ours: Candidate, theirs: Candidate) -> float | None:
    """Our milliseconds over theirs: the ratio of the medians in each shared round, then the median over rounds.

    A slow minute of the machine slows both, so that the ratio stays the same. None if one was not timed.
    """
    if ours.timing is None or theirs.timing is None or theirs.escalated is not None:
        return None
    pairs = zip(round_ms(ours.timing, ours.escalated), round_ms(theirs.timing, None), strict=False)
    return median(mine / other for mine, other in pairs)
