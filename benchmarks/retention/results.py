"""The results of one run: a row per candidate with scores, latency, memory, and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sonoedge.benchmarks.records.runfile import Candidate, Run
from sonoedge.benchmarks.retention.explanations import Explained, explained
from sonoedge.benchmarks.retention.retention import SHARES, Scores, scores, share_name
from sonoedge.benchmarks.retention.speeds import CascadeCost, Speed, cascade_cost, speed, time_ratio
from sonoedge.benchmarks.retention.wording import megabytes, milliseconds, percent
from sonoedge.train.evaluation.intervals import Interval

_OURS = {"full", "artifact"}


@dataclass(frozen=True)
class Row:
    """One candidate of one run.

    ``bare_ratio`` is the artifact's time over that of the bare interpreter, see `time_ratio`. ``front``: no other
    candidate is both faster and at least as accurate. ``cascade`` is null unless the candidate is a cascade.
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
    explanation: Explained | None
    cascade: CascadeCost | None
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


def result(run: Run) -> Result:
    """All rows of a run."""
    speeds = {c.name: speed(c.timing, c.escalated) for c in run.candidates}
    kept = {c.name: explained(run, c) for c in run.candidates}
    found = {c.name: scores(run, c) for c in run.candidates}
    front = pareto({
        c.name: (s.typical_ms, f.metrics["accuracy"].value)
        for c in run.candidates
        if c.kind != "bare" and (s := speeds[c.name]) and (f := found[c.name])
    })  # fmt: skip
    rows = []
    for c in run.candidates:
        own = speeds[c.name]
        bare = next((b for b in run.candidates if b.kind == "bare" and b.of == c.name), None)
        swept = [s for t in c.thread_sweep if (s := speed(t, c.escalated))]
        sweep = sorted(swept + ([own] if own else []), key=lambda s: s.threads)
        rows.append(
            Row(
                name=c.name,
                kind=c.kind,
                error=c.error,
                size_bytes=c.size_bytes,
                peak_bytes=c.peak_bytes,
                speed=own,
                sweep=tuple(sweep) if len(sweep) > 1 else (),
                bare_ratio=time_ratio(c, bare) if bare else None,
                scores=found[c.name],
                explanation=kept[c.name],
                cascade=cascade_cost(run, c),
                front=c.name in front,
                headline=headline(run, c, found[c.name], kept[c.name], own, speeds),
            )
        )
    return Result(run, tuple(rows))


def borrow_scores(found: Result, others: Sequence[Result]) -> tuple[tuple[Row, ...], Result] | None:
    """The rows of a device run with scores from another run of the same bundle that had images, and that other run.

    None if the run has scores of its own or no timings, or if no other run scored a file that it timed.
    """
    if found.run.data is not None or not any(row.speed for row in found.rows):
        return None
    for donor in others:
        if donor.run.data is None or donor.run.bundle_digest != found.run.bundle_digest:
            continue
        known = {row.name: row.scores for row in donor.rows}
        rows = [replace(row, scores=known.get(row.name)) for row in found.rows if row.kind == "artifact"]
        points = {
            r.name: (r.speed.typical_ms, r.scores.metrics["accuracy"].value) for r in rows if r.speed and r.scores
        }
        if points:
            front = pareto(points)
            return tuple(replace(row, front=row.name in front) for row in rows if row.name in points), donor
    return None


def pareto(points: dict[str, tuple[float, float]]) -> set[str]:
    """Names of the points (latency, accuracy) that no other point beats.

    A point beats another if it is at least as good in both (lower latency, higher accuracy) and better in one.
    """
    return {
        name
        for name, (ms, accuracy) in points.items()
        if not any(
            other_ms <= ms and other_accuracy >= accuracy and (other_ms, other_accuracy) != (ms, accuracy)
            for other_ms, other_accuracy in points.values()
        )
    }


def headline(
    run: Run,
    candidate: Candidate,
    found: Scores | None,
    kept_maps: Explained | None,
    own: Speed | None,
    speeds: dict[str, Speed | None],
) -> str:
    """One sentence about a candidate: what it keeps and what it costs."""
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
    if kept_maps is not None:
        parts.append(
            f"its heat maps are like the reference's to a median cosine of {kept_maps.cosine.value:.3f} "
            f"({kept_maps.verdict} at {kept_maps.bound:g})"
        )
    baseline = run.candidate(run.reference) if run.reference else None
    if baseline and baseline is not candidate:
        sizes = baseline.size_bytes, candidate.size_bytes
        parts.append(_smaller(sizes[0] / sizes[1]) if all(sizes) else "")
    if own is not None:
        against = speeds.get(run.reference or "") if run.reference != candidate.name else None
        ratio = f", {_faster(against.typical_ms / own.typical_ms)} than the reference" if against else ""
        if (cost := cascade_cost(run, candidate)) is not None:
            each = f"{milliseconds(cost.sure_ms)} or {milliseconds(cost.worst_ms)} ms each ({own.threads} threads)"
            parts.append(
                f"asks the full model too for {percent(cost.escalated.value)} of the images: "
                f"{own.typical_ms:.3g} ms on average, {each}{ratio}"
            )
        else:
            parts.append(f"answers in {own.typical_ms:.3g} ms (median, {own.threads} threads){ratio}")
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
    """The main result in a few sentences; None if accuracy or latency was not measured."""
    known = [
        (r, r.speed, r.scores.retention) for r in found.rows if r.kind == "artifact" and r.scores and not r.error
    ]
    timed = [(row, own, kept) for row, own, kept in known if own and kept]
    if not timed:
        return None
    # Decisions count, too: in accuracy, wrong decisions that become right hide right ones that become wrong.
    keeping = [
        (row, own, kept)
        for row, own, kept in timed
        if kept.accuracy_kept >= SHARES[0] and kept.flips.rate.value <= 1 - SHARES[0] + 1e-12
    ]
    share = share_name(SHARES[0])
    if not keeping:
        return f"On these images, no file keeps {share} of the accuracy and decisions of the {found.run.reference}."
    row, own, kept = min(keeping, key=lambda item: item[1].typical_ms)
    certain = kept.verdicts[share] == "PASS"
    return (
        f"The fastest file that keeps at least {share} of the accuracy and of the decisions here is {row.name}: "
        f"{milliseconds(own.typical_ms)} ms, {megabytes(row.size_bytes)} MB, {kept.flips.total} decisions changed. "
        + ("The interval confirms it." if certain else "With so few images the interval cannot confirm it.")
        + (f" Explanations kept: {row.explanation.verdict}." if row.explanation else "")
    )


def failures(results: Sequence[Result]) -> list[str]:
    """``artifact: reason`` of the files that failed; a peer that cannot be made does not count as a failure."""
    return [f"{row.name}: {row.error}" for r in results for row in r.rows if row.error and row.kind in _OURS]
