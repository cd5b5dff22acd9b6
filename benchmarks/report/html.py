"""HTML from the templates: escaped unless it is HTML already, and an unknown name is an error, not a gap.

The report's templates lie in ``templates/``, those of the experiments in ``benchmarks/experiments/templates/``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sonoedge.benchmarks.report import plots
from sonoedge.benchmarks.report.svg import key
from sonoedge.benchmarks.report.text import data_line, machine_line
from sonoedge.benchmarks.retention.wording import megabytes, milliseconds, percent
from sonoedge.edge_runtime.words import INTENDED_USE

_HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """The whole page of a template, such as ``report``."""
    return _TEMPLATES.get_template(f"{template}.html.j2").render(values)


def panel(template: str, macro: str, *values: Any, **named: Any) -> Markup:
    """What a macro of a template, such as ``latency`` of ``cost``, makes of the values."""
    made: Markup = getattr(_TEMPLATES.get_template(f"{template}.html.j2").module, macro)(*values, **named)
    return made


def written(value: float, form: str | Callable[[float], str]) -> str:
    """A number, written with a format or by a function."""
    return form(value) if callable(form) else format(value, form)


_TEMPLATES = Environment(
    loader=FileSystemLoader([_HERE / "templates", _HERE.parent / "experiments" / "templates"]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.globals |= {
    "style": Markup((_HERE / "report.css").read_text(encoding="utf-8")),
    "script": Markup((_HERE / "report.js").read_text(encoding="utf-8")),
    "intended_use": INTENDED_USE,
    "data_line": data_line,
    "machine_line": machine_line,
    "key": key,
    "shape_of": plots.shape_of,
    "written": written,
    "megabytes": megabytes,
    "milliseconds": milliseconds,
    "percent": percent,
}
