"""What is reported about one run: a row per candidate with scores, latency, memory, and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.retention import SHARES, Scores, scores, share_name
from benchmarks.runfile import Candidate, Run, Timing
from benchmarks.wording import megabytes, milliseconds, percent
from edge_runtime.latency import Latency, percentiles
from train.intervals import Interval

_OURS = {"full", "artifact"}


@dataclass(frozen=True)
class Speed:
    """Latency of a candidate; ``low_ms`` and ``high_ms`` are the lowest and highest median of a round (noise)."""

    threads: int
    queries: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class Row:
    """One candidate of one run.

    ``bare_ratio`` is the artifact's p50 over that of the bare interpreter; ``heatmap_median`` and ``heatmap_low``
    are the median and the 5th percentile of the correlation with the reference's heat maps. ``front``: no other
    artifact is both faster and at least as accurate.
    """

    name: str
    kind: str
    error: str | None
    size_bytes: int
    peak_bytes: int | None
    speed: Speed | None
    sweep: tuple[Speed, ...]
    bare_ratio: float | None
    scores: Scores | None
    heatmap_median: float | None
    heatmap_low: float | None
    front: bool
    headline: str


@dataclass(frozen=True)
class Result:
    """The rows of a run, in its order."""

    run: Run
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)


def speed(timing: Timing | None) -> Speed | None:
    """Percentiles of a timing; None where there is none."""
    if timing is None:
        return None
    found: Latency = percentiles([ms / 1e3 for ms in timing.samples_ms])
    medians, start = [], 0
    for size in timing.round_sizes:
        if size:
            medians.append(median(timing.samples_ms[start : start + size]))
        start += size
    low, high = round(min(medians), 3), round(max(medians), 3)
    return Speed(timing.threads, found.runs, found.p50_ms, found.p90_ms, found.p99_ms, low, high)


def result(run: Run) -> Result:
    """All rows of a run."""
    speeds = {c.name: speed(c.timing) for c in run.candidates}
    found = {c.name: scores(run, c) for c in run.candidates}
    front = pareto({
        c.name: (s.p50_ms, f.metrics["accuracy"].value)
        for c in run.candidates
        if c.kind != "bare" and (s := speeds[c.name]) and (f := found[c.name])
    })  # fmt: skip
    rows = []
    for c in run.candidates:
        own = speeds[c.name]
        bare = next((speeds[b.name] for b in run.candidates if b.kind == "bare" and b.of == c.name), None)
        heat = sorted(-1.0 if value is None else value for value in c.heatmap_agreement or ())
        sweep = sorted(
            [s for t in c.thread_sweep if (s := speed(t))] + ([own] if own else []), key=lambda s: s.threads
        )
        rows.append(
            Row(
                name=c.name,
                kind=c.kind,
                error=c.error,
                size_bytes=c.size_bytes,
                peak_bytes=c.peak_bytes,
                speed=own,
                sweep=tuple(sweep) if len(sweep) > 1 else (),
                bare_ratio=own.p50_ms / bare.p50_ms if own and bare else None,
                scores=found[c.name],
                heatmap_median=median(heat) if heat else None,
                heatmap_low=heat[int(0.05 * len(heat))] if heat else None,
                front=c.name in front,
                headline=headline(run, c, found[c.name], own, speeds),
            )
        )
    return Result(run, tuple(rows))


def borrow_scores(found: Result, others: Sequence[Result]) -> tuple[tuple[Row, ...], Result] | None:
    """Rows of a device run with the scores of the same bundle's files from a run that had images, and that run.

    None where the run has scores of its own, no timings, or where nobody scored this very bundle.
    """
    if found.run.data is not None or not any(row.speed for row in found.rows):
        return None
    for donor in others:
        if donor.run.data is None or donor.run.bundle_digest != found.run.bundle_digest:
            continue
        known = {row.name: row.scores for row in donor.rows}
        rows = [replace(row, scores=known.get(row.name)) for row in found.rows if row.kind == "artifact"]
        points = {
            r.name: (r.speed.p50_ms, r.scores.metrics["accuracy"].value) for r in rows if r.speed and r.scores
        }
        front = pareto(points)
        return tuple(replace(row, front=row.name in front) for row in rows if row.name in points), donor
    return None


def pareto(points: dict[str, tuple[float, float]]) -> set[str]:
    """Names that no other point beats: (latency, accuracy), lower and higher is better, strictly in one of them."""
    return {
        name
        for name, (ms, accuracy) in points.items()
        if not any(
            other_ms <= ms and other_accuracy >= accuracy and (other_ms, other_accuracy) != (ms, accuracy)
            for other_ms, other_accuracy in points.values()
        )
    }


def headline(
    run: Run, candidate: Candidate, found: Scores | None, own: Speed | None, speeds: dict[str, Speed | None]
) -> str:
    """One sentence: what it keeps, what it costs."""
    if candidate.error:
        return f"failed: {candidate.error}"
    parts = []
    if found is not None:
        accuracy = found.metrics["accuracy"]
        count = len(run.data.images) if run.data else 0
        if found.retention is None:
            parts.append(
                f"is the reference: {percent(accuracy.value)} of {count} images right [{_range(accuracy)}]"
            )
        else:
            kept, flips = found.retention.accuracy_kept, found.retention.flips
            parts.append(
                f"keeps {percent(kept)} of the accuracy; {flips.total} of {count} decisions differ "
                f"(at most {percent(flips.rate.high)} with 95 % confidence)"
            )
    baseline = run.candidate(run.reference) if run.reference else None
    if baseline and baseline is not candidate:
        parts.append(_smaller(baseline.size_bytes / candidate.size_bytes) if candidate.size_bytes else "")
    if own is not None:
        against = speeds.get(run.reference or "") if run.reference != candidate.name else None
        ratio = f", {_faster(against.p50_ms / own.p50_ms)} than the reference" if against else ""
        parts.append(f"answers in {own.p50_ms:.3g} ms (median, {own.threads} threads){ratio}")
    return "; ".join(part for part in parts if part) or "was not measured"


def _range(interval: Interval) -> str:
    return f"{percent(interval.low)}–{percent(interval.high)}"


def _smaller(ratio: float) -> str:
    return (
        f"{ratio:.1f}× smaller"
        if ratio >= 1.05
        else f"{1 / ratio:.1f}× larger"
        if ratio < 0.95
        else "the same size"
    )


def _faster(ratio: float) -> str:
    return f"{ratio:.2f}× faster" if ratio >= 1 else f"{1 / ratio:.2f}× slower"


def pick(found: Result) -> str | None:
    """One sentence for those who read no further; None where accuracy or latency was not measured."""
    known = [
        (r, r.speed, r.scores.retention) for r in found.rows if r.kind == "artifact" and r.scores and not r.error
    ]
    timed = [(row, own, kept) for row, own, kept in known if own and kept]
    if not timed:
        return None
    keeping = [(row, own, kept) for row, own, kept in timed if kept.accuracy_kept >= SHARES[0]]
    share = share_name(SHARES[0])
    if not keeping:
        return f"On these images, no file keeps {share} of the accuracy of the {found.run.reference}."
    row, own, kept = min(keeping, key=lambda item: item[1].p50_ms)
    certain = kept.verdicts[share] == "PASS"
    return (
        f"The fastest file that keeps at least {share} of the accuracy on these images is {row.name}: "
        f"{milliseconds(own.p50_ms)} ms, {megabytes(row.size_bytes)} MB, {kept.flips.total} decisions changed. "
        + ("The interval confirms it." if certain else "With so few images the interval cannot confirm it.")
    )


def failures(results: Sequence[Result]) -> list[str]:
    """``artifact: reason`` of the files that failed; a peer that cannot be made is no failure of ours."""
    return [f"{row.name}: {row.error}" for r in results for row in r.rows if row.error and row.kind in _OURS]
