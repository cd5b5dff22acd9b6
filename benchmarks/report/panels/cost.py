"""Panels about cost: the trade-off with accuracy, latency, threads, peers, size and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sonoedge.benchmarks.report import plots
from sonoedge.benchmarks.report.html import Cell, beside, block, interval_cell, number_cell, table, text_cell
from sonoedge.benchmarks.report.panels.common import Colours, name_cell
from sonoedge.benchmarks.retention.results import Result, Row
from sonoedge.benchmarks.retention.speeds import Speed, time_ratio
from sonoedge.benchmarks.retention.wording import megabytes, milliseconds, percent

_STAGES = ("decode", "resize", "invoke", "head", "explain")


def pareto(found: Result, rows: Sequence[Row], colours: Colours, source: str = "") -> str:
    """Accuracy against latency; ``source`` says where the accuracy comes from, if not from this run."""
    lines = [
        [
            name_cell(found, row, colours),
            interval_cell(row.scores.metrics["accuracy"]),
            number_cell(row.speed.typical_ms, milliseconds),
            _noise(row.speed),
            Cell("yes" if row.front else "", int(row.front)),
        ]
        for row in rows
        if row.scores and row.speed
    ]
    points = [
        plots.Point(
            row.name, row.speed.typical_ms, row.speed.low_ms, row.speed.high_ms, row.scores.metrics["accuracy"],
            row.front, colours[row.name], plots.shape_of(found, row.name),
        )
        for row in rows
        if row.scores and row.speed
    ]  # fmt: skip
    numbers = table(["model", "accuracy", "p50 ms", "round medians", "front"], lines, "Accuracy and latency")
    return block(
        "Accuracy against latency",
        "Left and up is better. Vertical bars: 95 % interval of the accuracy, wide because the images are few; "
        "the paired "
        "comparison below is sharper. Horizontal bars: lowest and highest median of a round. Dashed: the front, "
        f"where nothing else is both faster and at least as accurate; grey: what something beats. {source}",
        beside(plots.pareto(points), numbers),
    )


def latency(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Latency: percentiles, distribution, start-up and stages."""
    lines, details, stages = [], [], []
    for row in rows:
        c, s, name = found.run.candidate(row.name), row.speed, name_cell(found, row, colours)
        if s is None:
            continue
        percentiles = [number_cell(value, milliseconds) for value in (s.p50_ms, s.p90_ms, s.p99_ms)]
        lines.append(
            [name, *percentiles, _noise(s), number_cell(s.queries, "d"), number_cell(row.bare_ratio, ".3f")]
        )
        start = [number_cell(value, milliseconds) for value in (c.init_ms, c.first_ms)]
        details.append([name, *start, text_cell(executed(c.executed), words=True)])
        if "invoke" in c.stages_ms:
            stages.append([name, *[number_cell(c.stages_ms.get(stage), ".2f") for stage in _STAGES]])
    heads = ["model", "p50 ms", "p90 ms", "p99 ms", "round medians", "queries", "÷ bare"]
    content = beside(plots.distribution(found, rows, colours), table(heads, lines, "Latency"))
    content += _cascades(found, rows, colours)
    content += '<h3 class="second">Start-up, and what was executed</h3>'
    content += table(["model", "open ms", "first frame ms", "executed"], details, "Start-up")
    if stages:
        content += '<h3 class="second">One image, stage by stage (median ms)</h3>'
        content += table(["model", *_STAGES], stages, "Stages")
    return block(
        "Latency",
        "Single stream: one frame after another, backbone and head, after decoding and resizing; candidates take "
        "turns in processes of their own. A percentile is given where at least three queries lie beyond it (p90: "
        "30 queries, p99: 300). ÷ bare: our median over that of the interpreter alone on the same backbone file, "
        "round by round; the median of these ratios. Long mark in the plot: median, short mark: p90; what is "
        "slower than the 99th percentile is gathered at the edge.",
        content,
    )


def _cascades(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """The latency of cascades, on average and at worst."""
    lines = []
    for row in rows:
        if (c := row.cascade) is None:
            continue
        share = interval_cell(c.escalated) if found.run.data else number_cell(c.escalated.value, ".3f")
        times = [number_cell(value, milliseconds) for value in (c.average_ms, c.sure_ms, c.worst_ms)]
        note = text_cell(found.run.candidate(row.name).note, words=True)
        lines.append([name_cell(found, row, colours), share, *times, note])
    if not lines:
        return ""
    heads = ["model", "share asked of both", "average ms", "sure ms", "worst ms", "which models"]
    source = "these images" if found.run.data else "the images it was fitted and tested on"
    return (
        '<h3 class="second">The cascade</h3><p class="note">Medians of a frame that the cheap model decides and of '
        f"one for which both are asked, timed in turns; their average over {source}.</p>"
        + table(heads, lines, "Cascade")
    )


def threads(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Latency by number of threads."""
    swept = [row for row in rows if row.sweep]
    counts = sorted({s.threads for row in swept for s in row.sweep})
    lines = []
    for row in swept:
        by_count = {s.threads: s.typical_ms for s in row.sweep}
        gain = by_count[min(by_count)] / by_count[max(by_count)]
        figures = [number_cell(by_count.get(count), milliseconds) for count in counts]
        lines.append([name_cell(found, row, colours), *figures, number_cell(gain, ".2f")])
    shapes = {row.name: plots.shape_of(found, row.name) for row in swept}
    heads = ["model", *(f"{n} thread{'s' if n > 1 else ''}, p50 ms" for n in counts), "times faster"]
    return block(
        "Thread scaling",
        "Numbers of threads other than the main one are measured with a quarter of the queries.",
        beside(plots.scaling(swept, colours, shapes), table(heads, lines, "Thread scaling")),
    )


def peers(found: Result) -> str:
    """Our files beside the alternatives: bare interpreters, other tools for timing, other quantizers."""
    lines = []
    for row in found.rows:
        if row.kind in {"full", "artifact"}:
            continue
        c, retention = found.run.candidate(row.name), row.scores.retention if row.scores else None
        ours = found.run.candidate(c.of) if c.of else None
        lines.append([
            text_cell(row.name),
            number_cell(row.speed.typical_ms if row.speed else None, milliseconds),
            number_cell(time_ratio(ours, c) if ours else None, ".3f"),
            number_cell(retention.accuracy_kept if retention else None, percent),
            number_cell(retention.flips.total if retention else None, "d"),
            number_cell(row.size_bytes or None, megabytes),
            text_cell(f"failed: {row.error}" if row.error else c.note, words=True),
        ])  # fmt: skip
    if not lines:
        return ""
    heads = ["peer", "p50 ms", "ours ÷ theirs", "accuracy kept", "flips", "MB", "what it is"]
    return block(
        "What you would pick instead",
        "Measured in the same turns as our files. Ours ÷ theirs: our median (backbone and head) over theirs on "
        "the same backbone file, round by round; the median of these ratios.",
        table(heads, lines, "Peers"),
    )


def sizes(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Bytes on disk and in memory."""
    lines = []
    for row in rows:
        c = found.run.candidate(row.name)
        own = c.peak_bytes - c.base_bytes if c.peak_bytes and c.base_bytes else None
        figures = [number_cell(value, megabytes) for value in (row.size_bytes, row.peak_bytes, own)]
        lines.append([name_cell(found, row, colours), *figures])
    return block(
        "Size and memory",
        "Peak resident memory of a fresh process that opens the file and runs a few frames; the last column is "
        "without "
        "Python and the interpreter's library, which end at the thin mark in the plot.",
        beside(
            plots.bars(found, rows, colours),
            table(["model", "files MB", "peak MB", "of which model MB"], lines, "Size and memory"),
        ),
    )


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


def _noise(speed: Speed) -> Cell:
    return Cell(f"{milliseconds(speed.low_ms)} – {milliseconds(speed.high_ms)}", speed.high_ms - speed.low_ms)
