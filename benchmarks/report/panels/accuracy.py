"""Panels about accuracy: retention, metrics, curves, confusion matrices, heat maps, the guard's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from sonoedge.benchmarks.records.runfile import Run
from sonoedge.benchmarks.report import plots
from sonoedge.benchmarks.report.html import panel
from sonoedge.benchmarks.report.plots import Colours
from sonoedge.benchmarks.retention.explanations import FLOAT_BOUND, INTEGER_BOUND
from sonoedge.benchmarks.retention.results import Result, Row
from sonoedge.benchmarks.retention.retention import METRICS
from sonoedge.benchmarks.retention.wording import NAMES

FLOAT_PRECISIONS = {"fp32", "fp16", "dynamic"}


def retention(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Paired comparison with the reference."""
    compared = [row for row in rows if row.scores and row.scores.retention]
    if not compared:
        return ""
    bounds = (FLOAT_BOUND, INTEGER_BOUND)
    words = (_labels(found), _truth(found), _images_compared(rows))
    return panel("accuracy", "retention", found, compared, colours, *words, bounds)


def confusions(found: Result, rows: Sequence[Row]) -> str:
    """Confusion matrices of all scored candidates."""
    matrices = [(row.name, row.scores.confusion) for row in rows if row.scores]
    return panel("parts", "confusions", "Images, and the share of the true class.", _labels(found), matrices)


def _labels(found: Result) -> tuple[str, ...]:
    return found.run.data.labels if found.run.data else ("negative", "positive")


def _truth(found: Result) -> str:
    """The reference of the heat maps in words."""
    name = found.run.heatmap_reference
    if name is None:
        return "nothing (no float32 file was measured)"
    kind = found.run.candidate(name).kind
    return f"Grad-CAM by GradientTape on the {name}" if kind == "full" else f"that of {name}"


def _images_compared(rows: Sequence[Row]) -> str:
    """The number of compared images in words, and on how many of them a map was lost."""
    compared = [row.explanation for row in rows if row.explanation]
    if not compared:
        return "not compared here"
    lost = max(one.lost for one in compared)
    return f"all {compared[0].images} images" + (
        f", on up to {lost} of which only one map is empty" if lost else ""
    )


def metrics(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Every metric with its interval."""
    return panel("accuracy", "metrics", found, rows, colours, {name: NAMES[name] for name in METRICS})


def curves(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """ROC curves and reliability diagram; the diagram has the reference and the integer files only."""
    scored = [row for row in rows if row.scores]
    few = [r for r in scored if r.kind == "full" or found.run.candidate(r.name).precision not in FLOAT_PRECISIONS]
    few = few or scored[:2]
    lines = [plots.Curve(r.name, colours[r.name], r.scores.roc, r.scores.metrics) for r in scored if r.scores]
    roc = panel("accuracy", "curves", found, scored, colours, plots.roc(lines))
    return roc + panel("accuracy", "reliability", found, few, colours, plots.reliability(few, colours))


def gallery(run: Run) -> str:
    """Heat maps of the float file and of the integer files."""
    return panel("accuracy", "gallery", run)


def guard_tables(run: Run) -> str:
    """The candidates that the guard tried, one table for each artifact."""
    parts = []
    for name, candidates in run.ladders.items():
        usable = [entry for entry in candidates if _is_candidate(entry)] if isinstance(candidates, list) else []
        if usable:
            parts.append(panel("accuracy", "guard", name, usable, plots.guard_candidates(usable)))
    return Markup().join(parts)


def _is_candidate(entry: Any) -> bool:
    """Whether an entry of the guard's table has what the panel needs; the schema does not describe entries."""
    if not isinstance(entry, dict) or not {"candidate", "verdict", "budget"} <= set(entry):
        return False
    difference, budget = entry.get("accuracy_difference"), entry["budget"]
    numbers = [entry.get("images"), entry.get("flipped"), *(difference if isinstance(difference, list) else [None])]
    numbers.append(budget.get("max_drop") if isinstance(budget, dict) else None)
    return len(numbers) == 6 and all(isinstance(value, (int, float)) for value in numbers)
