"""`BenchmarkReport`: a report folder, and its figures without reading files again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sonoedge.benchmarks.records.runfile import REPORT
from sonoedge.benchmarks.report.page import page
from sonoedge.benchmarks.report.report import body, csv_text
from sonoedge.benchmarks.report.text import markdown, table
from sonoedge.benchmarks.retention.regression import Comparison
from sonoedge.benchmarks.retention.results import Result, Row, failures
from sonoedge.benchmarks.retention.retention import SHARES, share_name
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.train.evaluation.intervals import Interval


@dataclass(frozen=True)
class ReportRow:
    """One candidate of one run; what was not measured is None.

    Attributes:
        name: of the artifact, the full model or the peer.
        kind: ``full``, ``artifact``, ``bare`` or ``peer``.
        images: how many were scored.
        size_bytes: of its files.
        p50_ms: median of a frame after the resize; for a cascade the average over images.
        peak_bytes: memory of its process.
        decisions_changed: images that it decides otherwise than the reference.
        accuracy, auc: with 95 % intervals by group.
        verdict: ``PASS``, ``FAIL`` or ``INCONCLUSIVE`` on keeping 99 % of the reference's accuracy.
        explanation: the same on keeping its heat maps.
        error: why it could not be measured.
        headline: all of it in a sentence.
    """

    name: str
    kind: str
    images: int
    size_bytes: int
    p50_ms: float | None
    peak_bytes: int | None
    decisions_changed: int | None
    accuracy: Interval | None
    auc: Interval | None
    verdict: str | None
    explanation: str | None
    error: str | None
    headline: str


@dataclass(frozen=True)
class BenchmarkReport:
    """A report folder. It can stand wherever its path is taken: ``Path(report)`` is the folder.

    Attributes:
        path: the folder, with report.html, report.md, report.csv and report.json.
        rows: of all runs, in their order.
        failed: ``artifact: reason`` of the files that could not be measured.
        regressions: what got worse than the baseline, in words; empty without one.
        results: everything that was computed, by run.
        comparison: with the baseline; None without one.
    """

    path: Path
    rows: tuple[ReportRow, ...]
    failed: tuple[str, ...]
    regressions: tuple[str, ...]
    results: tuple[Result, ...] = field(repr=False)
    comparison: Comparison | None = field(default=None, repr=False)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return table(self.results, self.comparison)

    def row(self, name: str) -> ReportRow:
        """The first row of that name; `KeyError` if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    @property
    def html(self) -> Path:
        """The report as a page."""
        return self.path / "report.html"

    @property
    def json(self) -> Path:
        """The report with all raw figures; `benchmarks.write_report` merges such files."""
        return self.path / REPORT

    @property
    def markdown(self) -> Path:
        """The report as text."""
        return self.path / "report.md"

    def to_json(self) -> dict[str, Any]:
        """What report.json holds: plain JSON types."""
        return body(self.results, self.comparison)


def written(results: Sequence[Result], out: Path, comparison: Comparison | None = None) -> BenchmarkReport:
    """Write all forms of the report into a folder, report.json last: a folder with this file is complete."""
    report = BenchmarkReport(
        path=out,
        rows=tuple(_row(found, row) for found in results for row in found.rows),
        failed=tuple(failures(results)),
        regressions=tuple(str(one) for one in comparison.regressions) if comparison else (),
        results=tuple(results),
        comparison=comparison,
    )
    write_text_atomic(report.html, page(results, comparison))
    write_text_atomic(report.markdown, markdown(results, comparison))
    write_text_atomic(out / "report.csv", csv_text(results))
    write_text_atomic(report.json, json.dumps(report.to_json(), allow_nan=False) + "\n")
    return report


def _row(found: Result, row: Row) -> ReportRow:
    scores, kept = row.scores, row.scores.retention if row.scores else None
    return ReportRow(
        name=row.name,
        kind=row.kind,
        images=len(found.run.data.images) if found.run.data and scores else 0,
        size_bytes=row.size_bytes,
        p50_ms=row.speed.typical_ms if row.speed else None,
        peak_bytes=row.peak_bytes,
        decisions_changed=kept.flips.total if kept else None,
        accuracy=scores.metrics["accuracy"] if scores else None,
        auc=scores.metrics["auc"] if scores else None,
        verdict=kept.verdicts[share_name(SHARES[0])] if kept else None,
        explanation=row.explanation.verdict if row.explanation else None,
        error=row.error,
        headline=row.headline,
    )
