"""Panels about a run as a whole: the cards, the overview of several runs, provenance, limits."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from sonoedge.benchmarks.records.runfile import Run, Thermal
from sonoedge.benchmarks.report.html import block, interval_cell, number_cell, table, text_cell
from sonoedge.benchmarks.report.panels.common import tag
from sonoedge.benchmarks.retention.results import Result, Row
from sonoedge.benchmarks.retention.wording import megabytes, milliseconds, percent


def cards(found: Result) -> str:
    """One card for each candidate except bare interpreters: the main figures and one sentence."""
    items = [_card(found, row) for row in found.rows if row.kind != "bare" and not row.error]
    return f'<div class="cards">{"".join(items)}</div>'


def _card(found: Result, row: Row) -> str:
    retention = row.scores.retention if row.scores else None
    figures = []
    if retention is not None:
        figures.append((percent(retention.accuracy_kept), "accuracy kept"))
    elif row.scores is not None:
        figures.append((percent(row.scores.metrics["accuracy"].value), "accuracy"))
    if row.speed:
        what = "average latency" if row.cascade else "median latency"
        figures.append((f"{milliseconds(row.speed.typical_ms)} ms", what))
    figures.append((f"{megabytes(row.size_bytes)} MB", "on disk"))
    if row.peak_bytes:
        figures.append((f"{megabytes(row.peak_bytes)} MB", "peak memory"))
    big = "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in figures)
    tags = [tag({"full": "full model", "peer": "peer"}.get(row.kind, found.run.candidate(row.name).precision), "")]
    if row.front:
        tags.append(tag("on the front", ""))
    verdicts = [tag(f"{share}: {text}", text) for share, text in retention.verdicts.items()] if retention else []
    if row.explanation is not None:
        verdicts.append(tag(f"explanation: {row.explanation.verdict}", row.explanation.verdict))
    return (
        f'<article class="card"><h3>{escape(row.name)} {" ".join(tags)}</h3><div class="big">{big}</div>'
        f"<p>{' '.join(verdicts)}</p><p>It {escape(row.headline)}.</p></article>"
    )


def overview(results: Sequence[Result]) -> str:
    """All runs in one table: accuracy by data set, latency by machine."""
    names = list(dict.fromkeys(row.name for found in results for row in found.rows if row.kind != "bare"))
    heads = ["model"]
    many = len({found.run.bundle_digest for found in results}) > 1
    for number, found in enumerate(results, start=1):
        data, machine = found.run.data, found.run.machine.processor
        run = f"run {number}, {found.run.bundle}" if many else f"run {number}"
        heads += [f"{run}: accuracy, {data.name} ({data.kind})"] if data else []
        heads += [f"{run}: p50 ms, {machine}"] if any(row.speed for row in found.rows) else []
    lines = []
    for name in names:
        line = [text_cell(name)]
        for found in results:
            row = next((r for r in found.rows if r.name == name), None)
            if found.run.data:
                line.append(interval_cell(row.scores.metrics["accuracy"] if row and row.scores else None))
            if any(r.speed for r in found.rows):
                line.append(number_cell(row.speed.typical_ms if row and row.speed else None, milliseconds))
        lines.append(line)
    note = "A test set says how the files compare; only external images say how the model travels."
    return block("All runs", note, table(heads, lines, "All runs"))


def provenance(run: Run) -> str:
    """The origin of a run: bundle, machine, versions, images, training."""
    m = run.machine
    entries: dict[str, Any] = {
        "bundle": f"{run.bundle}, digest {run.bundle_digest}",
        "measured": run.created,
        "processor": f"{m.processor} ({m.architecture}), {m.cores} cores, governor {m.governor or 'unknown'}",
        "system": f"{m.system}, Python {m.python}",
        "versions": ", ".join(f"{name} {version}" for name, version in m.versions.items()),
        "before the run": _thermal(run.thermal_before),
        "after the run": _thermal(run.thermal_after),
    }
    if run.data:
        entries["images"] = "; ".join(
            (f"{run.data.name}, digest {run.data.digest}", run.data.note, *run.data.notes)
        )
    entries |= {key.replace("_", " "): value for key, value in run.provenance.items()}
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(_words(value))}</dd>" for key, value in entries.items())
    return block("Provenance", "What was measured, on what, with what.", f"<dl>{items}</dl>")


def limits(results: Sequence[Result]) -> str:
    """The limits of the report: what a reader must not conclude."""
    counts = [len({image.group for image in found.run.data.images}) for found in results if found.run.data]
    few = ""
    if counts:
        bound = percent(1 - 0.025 ** (1 / min(counts)))
        few = f"With {min(counts)} groups of images, zero flips still allow {bound} (exact 95 % bound). "
    items = [
        f"{few}PASS means that the whole interval is within the budget, FAIL that it is outside, INCONCLUSIVE that "
        "it crosses the budget: these images cannot tell. Intervals are by group (patient or source image).",
        "Thresholds were chosen on validation images. Test figures belong to the hospital and scanner of the "
        "training data, "
        "external ones to theirs.",
        "Latency holds for this machine, these versions and nothing else running. An integer file can be faster "
        "on one "
        "processor and slower on another: run the benchmark on the device that will be used.",
        "Integer results differ by a few units in the last place between x86 and Arm kernels.",
        "Calibration error and its interval lean upwards for few images. No interval is corrected for the number "
        "of files "
        "compared.",
        "A heat map that stays the same says that the file explains like the full model, not that the "
        "explanation is right.",
    ]
    return f'<section class="block"><ul>{"".join(f"<li>{escape(item)}</li>" for item in items)}</ul></section>'


def _thermal(moment: Thermal) -> str:
    parts = []
    if moment.temperature_c is not None:
        parts.append(f"{moment.temperature_c:g} °C")
    if moment.clock_mhz is not None:
        parts.append(f"{moment.clock_mhz:g} MHz")
    if moment.throttled is not None:
        parts.append(f"throttling flags {moment.throttled:#x}")
    return ", ".join(parts) or "this machine does not tell temperature, clock or throttling"


def _words(value: Any) -> str:
    """Nested provenance as text, such as ``settings (seed 0, split grouped), images (train 439, …)``."""
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_bracketed(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _bracketed(value: Any) -> str:
    return f"({_words(value)})" if isinstance(value, (dict, list)) and value else _words(value)
