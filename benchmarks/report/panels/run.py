"""Panels about a run as a whole: the cards, the overview of several runs, provenance, limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sonoedge.benchmarks.records.runfile import Run, Thermal
from sonoedge.benchmarks.report.html import panel
from sonoedge.benchmarks.retention.results import Result, pick


def cards(found: Result) -> str:
    """What to pick, and a card for each candidate except bare interpreters: the main figures and one sentence."""
    rows = [row for row in found.rows if row.kind != "bare" and not row.error]
    return panel("run", "cards", found, rows, pick(found))


def overview(results: Sequence[Result]) -> str:
    """All runs in one table: accuracy by data set, latency by machine."""
    names = list(dict.fromkeys(row.name for found in results for row in found.rows if row.kind != "bare"))
    many = len({found.run.bundle_digest for found in results}) > 1
    columns: list[tuple[str, str, dict[str, Any]]] = []
    for number, found in enumerate(results, start=1):
        run = f"run {number}, {found.run.bundle}" if many else f"run {number}"
        if data := found.run.data:
            accuracies = {row.name: row.scores.metrics["accuracy"] for row in found.rows if row.scores}
            columns.append((f"{run}: accuracy, {data.name} ({data.kind})", "interval", accuracies))
        if times := {row.name: row.speed.typical_ms for row in found.rows if row.speed}:
            columns.append((f"{run}: p50 ms, {found.run.machine.processor}", "number", times))
    return panel("run", "overview", names, columns)


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
    return panel("run", "provenance", {name: _words(value) for name, value in entries.items()})


def limits(results: Sequence[Result]) -> str:
    """The limits of the report: what a reader must not conclude."""
    counts = [len({image.group for image in found.run.data.images}) for found in results if found.run.data]
    return panel("run", "limits", min(counts, default=0))


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
