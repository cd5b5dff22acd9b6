"""The report as data: ``report.json`` (raw runs and everything computed from them) and ``report.csv``.

``python -m sonoedge.benchmarks.report.report > benchmarks/report/report.schema.json`` writes the schema again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sonoedge.benchmarks.records.runfile import REPORT_KIND, SCHEMA_VERSION, Run
from sonoedge.benchmarks.records.schema import json_schema
from sonoedge.benchmarks.report.choice import Pool, pools
from sonoedge.benchmarks.retention.regression import Comparison, Regression
from sonoedge.benchmarks.retention.results import Result, Row
from sonoedge.benchmarks.retention.retention import METRICS, SHARES, share_name
from sonoedge.edge_runtime.typed_json import to_plain
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.evaluation.intervals import UNDEFINED


@dataclass(frozen=True)
class Report:
    """The object of ``report.json``: ``results[i]`` are the rows computed from ``runs[i]``.

    Each of ``pools`` compares the files of all bundles that were measured alike, and recommends a file for each
    kind of device. ``regressions`` is null if there was no baseline.
    """

    schema_version: int
    kind: str
    intended_use: str
    runs: tuple[Run, ...]
    results: tuple[tuple[Row, ...], ...]
    pools: tuple[Pool, ...]
    regressions: tuple[Regression, ...] | None


def body(results: Sequence[Result], comparison: Comparison | None) -> dict[str, Any]:
    """The report as plain JSON; undefined figures are null."""
    report = Report(
        SCHEMA_VERSION,
        REPORT_KIND,
        INTENDED_USE,
        tuple(found.run for found in results),
        tuple(found.rows for found in results),
        pools(results),
        comparison.regressions if comparison else None,
    )
    plain: dict[str, Any] = to_plain(report)
    return plain


def schema() -> dict[str, Any]:
    """The JSON Schema of ``report.json``; its ``$defs/Run`` is the schema of a run file."""
    found = json_schema(Report)
    # An undefined figure (AUC of one class, precision without a positive decision) is NaN here and null in JSON.
    undefined = {"type": ["number", "null"]}
    for definition in ("Interval", "Retention"):
        fields = found["$defs"][definition]["properties"]
        fields |= {name: undefined for name, kind in fields.items() if kind == {"type": "number"}}
    return {"title": "SonoEdge benchmark report", **found}


def csv_text(results: Sequence[Result]) -> str:
    """CSV with one line per run and candidate; a figure that does not exist is empty."""
    lines = [_csv_record(found, row) for found in results for row in found.rows]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _spreadsheet(value) for key, value in line.items()} for line in lines)
    return buffer.getvalue()


def _csv_record(found: Result, row: Row) -> dict[str, Any]:
    run, data, c, speed = found.run, found.run.data, found.run.candidate(row.name), row.speed
    retention = row.scores.retention if row.scores else None
    record: dict[str, Any] = {
        "created": run.created,
        "machine": run.machine.processor,
        "data": data.name if data else None,
        "data_kind": data.kind if data else None,
        "images": len(data.images) if data else None,
        "name": row.name,
        "kind": row.kind,
        "precision": c.precision,
        "error": row.error,
        "size_bytes": row.size_bytes,
        "peak_bytes": row.peak_bytes,
        "init_ms": c.init_ms,
        "first_ms": c.first_ms,
        "bare_ratio": row.bare_ratio,
        "escalated": c.escalated,
    }
    for name in ("threads", "queries", "typical_ms", "p50_ms", "p90_ms", "p99_ms", "low_ms", "high_ms"):
        record[name] = getattr(speed, name) if speed else None
    record["accuracy_kept"] = retention.accuracy_kept if retention else None
    record["flips"] = retention.flips.total if retention else None
    record["mcnemar_p"] = retention.flips.mcnemar_p if retention else None
    for share in SHARES:
        record[f"verdict_{share:g}"] = retention.verdicts[share_name(share)] if retention else None
    e = row.explanation
    kept = e.cosine if e else UNDEFINED
    record |= {"heatmap_cosine": kept.value, "heatmap_cosine_low": kept.low, "heatmap_cosine_high": kept.high}
    record |= {"heatmap_cosine_p5": e.low if e else None, "heatmap_lost": e.lost if e else None}
    record |= {"explanation_bound": e.bound if e else None, "verdict_explanation": e.verdict if e else None}
    for name in METRICS:
        interval = row.scores.metrics[name] if row.scores else UNDEFINED
        # The column "precision" is already the number format of the file.
        column = "ppv" if name == "precision" else name
        record |= {column: interval.value, f"{column}_low": interval.low, f"{column}_high": interval.high}
    return record


def _spreadsheet(value: Any) -> Any:
    """A CSV value; None is empty, and a text that a spreadsheet would take for a formula gets an apostrophe."""
    plain = to_plain(value)
    if isinstance(plain, str) and plain.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{plain}"
    return "" if plain is None else plain


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
