"""Panels about cost: the trade-off with accuracy, latency, threads, peers, size and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sonoedge.benchmarks.report import plots
from sonoedge.benchmarks.report.html import panel
from sonoedge.benchmarks.report.plots import Colours
from sonoedge.benchmarks.retention.results import Result, Row
from sonoedge.benchmarks.retention.speeds import time_ratio


def pareto(found: Result, rows: Sequence[Row], colours: Colours, source: str = "") -> str:
    """Accuracy against latency; ``source`` says where the accuracy comes from, if not from this run."""
    both = [row for row in rows if row.scores and row.speed]
    points = [
        plots.Point(
            row.name, row.speed.typical_ms, row.speed.low_ms, row.speed.high_ms, row.scores.metrics["accuracy"],
            row.front, colours[row.name], plots.shape_of(found, row.name),
        )
        for row in both
        if row.scores and row.speed
    ]  # fmt: skip
    return panel("cost", "pareto", found, both, colours, plots.pareto(points), source)


def latency(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Latency: percentiles, distribution, start-up and stages."""
    timed = [row for row in rows if row.speed]
    staged = [row for row in timed if "invoke" in found.run.candidate(row.name).stages_ms]
    drawing = plots.distribution(found, rows, colours)
    ran = {row.name: executed(found.run.candidate(row.name).executed) for row in timed}
    return panel("cost", "latency", found, timed, colours, drawing, ran, staged)


def threads(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Latency by number of threads."""
    swept = [(row, {s.threads: s.typical_ms for s in row.sweep}) for row in rows if row.sweep]
    counts = sorted({count for _, by_count in swept for count in by_count})
    shapes = {row.name: plots.shape_of(found, row.name) for row, _ in swept}
    drawing = plots.scaling([row for row, _ in swept], colours, shapes)
    heads = [f"{n} thread{'s' if n > 1 else ''}, p50 ms" for n in counts]
    return panel("cost", "threads", found, swept, colours, drawing, heads, counts)


def peers(found: Result) -> str:
    """Our files beside the alternatives: bare interpreters, other tools for timing, other quantizers."""
    lines = []
    for row in found.rows:
        if row.kind not in {"full", "artifact"}:
            c = found.run.candidate(row.name)
            ratio = time_ratio(found.run.candidate(c.of), c) if c.of else None
            lines.append((row, ratio, f"failed: {row.error}" if row.error else c.note))
    return panel("cost", "peers", lines) if lines else ""


def sizes(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Bytes on disk and in memory."""
    return panel("cost", "sizes", found, rows, colours, plots.bars(found, rows, colours))


def executed(executed: Mapping[str, Any]) -> str:
    """What the interpreter says it ran, in words."""
    parts = [str(executed.get("interpreter", ""))]
    if "xnnpack_partitions" in executed:
        count = executed["xnnpack_partitions"]
        parts.append(
            f"{executed.get('operators')} operators, in {count} XNNPACK partition{'s' if count != 1 else ''}"
        )
    if isinstance(executed.get("executed"), dict):
        counts = ", ".join(f"{count} in {precision}" for precision, count in executed["executed"].items())
        parts.append(f"convolutions and matrix products: {counts}")
    return "; ".join(part for part in parts if part)
