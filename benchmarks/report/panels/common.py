"""Shared parts of panels: the name of a candidate with its colour and shape, and verdicts as tags."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from sonoedge.benchmarks.report import plots
from sonoedge.benchmarks.report.html import Cell
from sonoedge.benchmarks.report.svg import key
from sonoedge.benchmarks.retention.results import Result, Row

Colours = Mapping[str, int]


def name_cell(found: Result, row: Row, colours: Colours) -> Cell:
    """A candidate's name, preceded by its marker in the plots."""
    return Cell(key(plots.shape_of(found, row.name), colours[row.name]) + escape(row.name), row.name)


def tag(text: str, verdict: str) -> str:
    """A label in the verdict's colour."""
    known = verdict if verdict in {"PASS", "FAIL", "INCONCLUSIVE"} else "plain"
    return f'<span class="tag {known}">{escape(text)}</span>'
