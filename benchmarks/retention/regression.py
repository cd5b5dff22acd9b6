"""Compare a report with an earlier one: which files became slower, larger or less accurate, or stopped working."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sonoedge.benchmarks.records.runfile import Run
    from sonoedge.benchmarks.retention.results import Result, Row


@dataclass(frozen=True)
class Limits:
    """How much worse a figure may be and still count as unchanged.

    ``slowdown``, ``growth`` (bytes on disk) and ``memory`` are relative; ``loss`` of accuracy, AUC and heat map
    cosine is absolute.
    """

    slowdown: float = 0.10
    growth: float = 0.05
    memory: float = 0.20
    loss: float = 0.01


@dataclass(frozen=True)
class Regression:
    """One figure that got worse. ``where``: machine or data; ``limit`` is what would have been accepted."""

    artifact: str
    what: str
    where: str
    before: float
    after: float
    limit: float

    def __str__(self) -> str:
        change = f"{self.before:.4g} -> {self.after:.4g}"
        return f"{self.artifact}: {self.what} {change} (limit {self.limit:.4g}; {self.where})"


@dataclass(frozen=True)
class Comparison:
    """Regressions, and the number of figures that could be compared."""

    regressions: tuple[Regression, ...]
    compared: int


def compare_reports(baseline: Sequence[Result], current: Sequence[Result], limits: Limits) -> Comparison:
    """Compare every candidate of ``current`` with its counterpart in ``baseline``.

    Runs are compared if they share the machine or the images. Speed and memory need the same machine and number of
    threads, accuracy the same images. A slowdown counts only beyond the noise of both runs: the fastest round now
    is slower than the slowest round then. Runs that are marked invalid are not compared by speed.
    """
    found: list[Regression] = []
    compared = 0
    for new in current:
        for old in baseline:
            for row in new.rows:
                before = next((r for r in old.rows if r.name == row.name), None)
                if before is None or before.error or row.kind == "bare":
                    continue
                for regression in _compare(old.run, before, new.run, row, limits):
                    compared += 1
                    if regression is not None and regression not in found:
                        found.append(regression)
    return Comparison(tuple(found), compared)


def _compare(old: Run, before: Row, new: Run, after: Row, limits: Limits) -> Iterator[Regression | None]:
    """One item for each figure that both runs have: a regression, or None."""
    same_machine = machine_key(old) == machine_key(new)
    same_data = old.data is not None and new.data is not None and old.data.digest == new.data.digest
    if not same_machine and not same_data:
        return
    place = f"{new.machine.processor}, {new.machine.cores} cores"
    if after.error:
        yield Regression(after.name, "works (1) or fails (0)", place, 1, 0, 1)
        return
    yield _grown(after.name, "bytes on disk", place, before.size_bytes, after.size_bytes, limits.growth)
    if same_machine and before.speed and after.speed and before.speed.threads == after.speed.threads:
        if not old.invalid and not new.invalid:
            what = "average ms" if after.cascade else "p50 ms"
            was, now = before.speed.typical_ms, after.speed.typical_ms
            slower = _grown(after.name, what, place, was, now, limits.slowdown)
            yield slower if after.speed.low_ms > before.speed.high_ms else None
        if before.peak_bytes and after.peak_bytes:
            yield _grown(after.name, "peak memory bytes", place, before.peak_bytes, after.peak_bytes, limits.memory)
    if same_data and before.explanation and after.explanation and new.data is not None:
        was, now = before.explanation.cosine.value, after.explanation.cosine.value
        lost = Regression(after.name, "heat map cosine", new.data.name, was, now, was - limits.loss)
        yield (
            lost
            if now < was - limits.loss and before.explanation.reference == after.explanation.reference
            else None
        )
    if same_data and before.scores and after.scores and new.data is not None:
        for metric in ("accuracy", "auc"):
            was, now = before.scores.metrics[metric].value, after.scores.metrics[metric].value
            worst = was - limits.loss
            worse = Regression(after.name, metric, f"{new.data.name} ({new.data.kind})", was, now, worst)
            yield worse if now < worst - 1e-12 else None


def machine_key(run: Run) -> tuple[str, int, str]:
    """The properties of a machine that must be equal for comparable timings."""
    return run.machine.processor, run.machine.cores, run.machine.architecture


def _grown(name: str, what: str, where: str, before: float, after: float, share: float) -> Regression | None:
    limit = before * (1 + share)
    return Regression(name, what, where, before, after, limit) if after > limit else None
