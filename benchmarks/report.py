"""Benchmark results as data, as a table, and as files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.latency import Latency
from benchmarks.scoring import SHOWN_METRICS, Score
from edge_runtime.bundle import INTENDED_USE
from edge_runtime.files import write_text_atomic
from train.metrics import Interval

REPORT = "report.json"


@dataclass(frozen=True)
class Row:
    """One model: scores on the images, bytes on disk, latency per frame, interpreter as executed."""

    score: Score
    size_bytes: int
    latency: Latency | None
    device: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """Everything a reader needs beside the figures: images, weights, machine."""

    bundle: str
    data: str
    kind: str
    note: str
    images: int
    groups: int
    reference: str
    machine: Mapping[str, Any]
    provenance: Mapping[str, Any]
    rows: Sequence[Row]


def write_report(report: Report, folder: Path) -> None:
    """Write ``report.json`` and ``report.md``."""
    write_text_atomic(folder / "report.md", markdown(report))
    write_text_atomic(folder / REPORT, json.dumps(to_json(report), indent=2) + "\n")


def to_json(report: Report) -> dict[str, Any]:
    """Plain JSON types; NaN becomes null."""
    rows = []
    for row in report.rows:
        s = row.score
        rows.append(
            {
                "name": s.name,
                "threshold": s.threshold,
                "size_bytes": row.size_bytes,
                "latency": asdict(row.latency) if row.latency else None,
                "device": dict(row.device),
                "metrics": {name: _interval(interval) for name, interval in s.metrics.items()},
                "versus_reference": {name: _interval(interval) for name, interval in s.versus.items()},
                "flipped": s.flipped,
                "logits": [round(float(value), 5) for value in s.logits],
            }
        )
    head = {key: value for key, value in asdict(report).items() if key != "rows"}
    return {**head, "intended_use": INTENDED_USE, "rows": rows}


def table(report: Report) -> str:
    """The table for the terminal."""
    header = f"{'':<16}{'MB':>7}" + "".join(f"{name:>22}" for name in SHOWN_METRICS)
    lines = [
        f"{report.data}: {report.images} images in {report.groups} groups ({report.note})",
        f"reference: {report.reference}",
        "",
        header + f"{'flipped':>10}{'p50 ms':>9}{'p90 ms':>9}",
    ]
    for row in report.rows:
        cells = "".join(f"{_shown(row.score.metrics[name]):>22}" for name in SHOWN_METRICS)
        lines.append(
            f"{row.score.name:<16}{row.size_bytes / 1e6:>7.1f}{cells}{_flips(row, report):>10}"
            + (f"{row.latency.p50_ms:>9.1f}{row.latency.p90_ms:>9.1f}" if row.latency else f"{'':>18}")
        )
    lines += ["", f"95 % intervals; {_machine_line(report)}", INTENDED_USE]
    return "\n".join(lines)


def markdown(report: Report) -> str:
    """The same table as Markdown."""
    lines = [
        f"# Benchmark of {report.bundle} on {report.data}",
        "",
        f"**{INTENDED_USE}**",
        "",
        f"{report.images} images in {report.groups} groups; {report.note}. Reference: {report.reference}. "
        f"{_machine_line(report)}. Values with 95 % intervals.",
        "",
        "| model | MB | " + " | ".join(SHOWN_METRICS) + " | decisions flipped | p50 ms | p90 ms |",
        "|---|---|" + "---|" * (len(SHOWN_METRICS) + 3),
    ]
    for row in report.rows:
        cells = " | ".join(_shown(row.score.metrics[name]) for name in SHOWN_METRICS)
        latency = f"{row.latency.p50_ms:.1f} | {row.latency.p90_ms:.1f}" if row.latency else " | "
        lines.append(
            f"| {row.score.name} | {row.size_bytes / 1e6:.1f} | {cells} | {_flips(row, report)} | {latency} |"
        )
    return "\n".join([*lines, ""])


def _flips(row: Row, report: Report) -> str:
    return f"{row.score.flipped}/{report.images}" if row.score.versus else "reference"


def _shown(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _interval(interval: Interval) -> list[float | None]:
    values = (interval.value, interval.low, interval.high)
    return [None if math.isnan(value) else round(float(value), 6) for value in values]


def _machine_line(report: Report) -> str:
    m = report.machine
    return f"{m['processor']}, {m['threads']} threads, {m['system']}"
