"""The report as plain text for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from sonoedge.benchmarks.records.runfile import Run
from sonoedge.benchmarks.report.choice import pools, time_text
from sonoedge.benchmarks.retention.regression import Comparison
from sonoedge.benchmarks.retention.results import Result, Row, pick
from sonoedge.benchmarks.retention.wording import NAMES, megabytes, milliseconds, shown
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.markdown import markdown_table
from sonoedge.train.tables import Column, fitted

SHOWN = ("accuracy", "sensitivity", "specificity", "auc")
_COLUMNS = (
    Column("", 29, left=True), Column("MB", 7), *(Column(NAMES[name], 22) for name in SHOWN), Column("flips", 7),
    Column("99 %", 14), Column("heat map", 9), Column("kept", 14), Column("p50 ms", 9), Column("p90 ms", 9),
    Column("peak MB", 9),
)  # fmt: skip


def machine_line(run: Run) -> str:
    """The machine and the protocol in one line."""
    m = run.machine
    memory = f", {m.memory_bytes / 2**30:.0f} GiB" if m.memory_bytes else ""
    parts = [f"{m.processor}, {m.cores} cores{memory}, {m.system}, governor {m.governor or 'unknown'}"]
    if run.protocol:
        p = run.protocol
        order = "interleaved" if p.interleaved else "not interleaved: memory was short"
        parts.append(
            f"{p.threads} threads, mode {p.mode}: at least {p.min_queries} queries and {p.min_seconds:g} s each, "
            f"{order}"
        )
    return "; ".join(parts)


def data_line(run: Run) -> str:
    """The scored images in one line."""
    if run.data is None:
        return "no images scored"
    count, groups = len(run.data.images), len({image.group for image in run.data.images})
    negative = sum(image.label == 0 for image in run.data.images)
    return (
        f"{run.data.name}: {count} images in {groups} groups ({negative} {run.data.labels[0]}, "
        f"{count - negative} {run.data.labels[1]}); {run.data.note}"
    )


def table(results: Sequence[Result], comparison: Comparison | None) -> str:
    """The report as text for the terminal."""
    lines = []
    for found in results:
        run = found.run
        lines += [data_line(run), machine_line(run), f"reference: {run.reference or 'none'}", ""]
        lines.append(fitted(_COLUMNS, [_cells(row) for row in found.rows]))
        lines += _cascades(found)
        if sentence := pick(found):
            lines += ["", sentence]
        if run.invalid:
            lines.append(f"INVALID TIMINGS: {run.invalid}")
        lines.append("")
    lines += _choices(results)
    lines += [f"regression: {regression}" for regression in (comparison.regressions if comparison else ())]
    if comparison and not comparison.regressions:
        lines.append(f"no regression in {comparison.compared} figures compared with the baseline")
    return "\n".join([*lines, "95 % intervals.", INTENDED_USE])


def markdown(results: Sequence[Result], comparison: Comparison | None) -> str:
    """The report as Markdown, with a sentence for each candidate."""
    lines = [f"# Benchmark of {results[0].run.bundle}", "", f"**{INTENDED_USE}**", ""]
    if comparison is not None:
        lines += ["## Against the baseline", ""]
        lines += [f"- **worse** {regression}" for regression in comparison.regressions] or [
            f"No regression in {comparison.compared} figures."
        ]
        lines.append("")
    if choices := _choices(results):
        lines += ["## Which file for which device", "", *(f"- {line}" for line in choices), ""]
    for found in results:
        run = found.run
        title = f"{run.data.name} ({run.data.kind})" if run.data else run.machine.processor
        lines += [f"## {title}, {run.created[:10]}", "", f"{data_line(run)}. {machine_line(run)}.", ""]
        if run.invalid:
            lines += [f"**The timings are invalid: {run.invalid}.**", ""]
        if sentence := pick(found):
            lines += [sentence, ""]
        lines += [f"- **{row.name}** {row.headline}." for row in found.rows if row.kind != "bare"]
        head = [column.title for column in _COLUMNS]
        lines += ["", markdown_table(head, [_cells(row) for row in found.rows]), ""]
    return "\n".join(
        [*lines, "Values with 95 % intervals; report.html has all figures, report.json the raw data.", ""]
    )


def _cells(row: Row) -> list[str]:
    """A cell for each of `_COLUMNS`; of an artifact that failed, its name and the reason."""
    if row.error:
        return [row.name, f"failed: {row.error}"]
    metrics = [shown(row.scores.metrics[name]) if row.scores else "" for name in SHOWN]
    speeds = [milliseconds(row.speed.typical_ms), milliseconds(row.speed.p90_ms)] if row.speed else ["", ""]
    return [
        row.name, megabytes(row.size_bytes), *metrics, *_verdicts(row), *speeds, megabytes(row.peak_bytes),
    ]  # fmt: skip


def _verdicts(row: Row) -> tuple[str, str, str, str]:
    """Flips, verdict on 99 % of the accuracy, median cosine of the heat maps, verdict on the heat maps."""
    retention = row.scores.retention if row.scores else None
    decisions = (str(retention.flips.total), next(iter(retention.verdicts.values()))) if retention else ("", "")
    maps = (f"{row.explanation.cosine.value:.4f}", row.explanation.verdict) if row.explanation else ("", "")
    return *decisions, *maps


def _choices(results: Sequence[Result]) -> list[str]:
    """A line for each kind of device of each pool."""
    lines = []
    for pool in pools(results):
        for r in pool.recommendations:
            time = "" if r.low_ms is None or r.high_ms is None else (
                f", {time_text(r.low_ms, r.high_ms, measured=r.measured)}"
            )  # fmt: skip
            lines.append(f"for a {r.device}: {r.label or 'no file'}{time}. {r.reason}")
    return lines


def _cascades(found: Result) -> list[str]:
    """One sentence for a cascade, whose latency is an average."""
    return [
        f"The latency of {row.name} is an average: {row.headline}."
        for row in found.rows
        if row.cascade and row.speed
    ]
