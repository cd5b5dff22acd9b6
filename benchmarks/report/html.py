"""Pieces of HTML: escaped text, sortable tables, a page that needs no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from sonoedge.benchmarks.retention.retention import Confusion
from sonoedge.benchmarks.retention.wording import percent
from sonoedge.train.evaluation.intervals import Interval

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Cell:
    """A table cell: content as HTML, the value to sort by (None sorts last), and whether it holds running text."""

    content: str
    value: float | str | None = None
    words: bool = False


def text_cell(text: str, *, words: bool = False) -> Cell:
    """Escaped text that sorts as text."""
    return Cell(escape(text), text, words)


def number_cell(value: float | None, form: str | Callable[[float], str]) -> Cell:
    """A number, written with a format or by a function; an en dash for None."""
    if value is None:
        return Cell("–", None)
    return Cell(escape(form(value) if callable(form) else format(value, form)), value)


def interval_cell(interval: Interval | None, form: str = ".3f") -> Cell:
    """A value with its limits below it; ``n/a`` if there is none."""
    if interval is None or interval.value != interval.value:
        return Cell("n/a", None)
    value, low, high = (format(v, form) for v in (interval.value, interval.low, interval.high))
    return Cell(f"{value}<small>{low} – {high}</small>", interval.value)


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str) -> str:
    """A table in a box that scrolls sideways; ``caption`` is its name for screen readers."""
    words = {i for row in rows for i, cell in enumerate(row) if cell.words}
    heads = "".join(
        f'<th scope="col"{" class=words" if i in words else ""}>{escape(name)}</th>' for i, name in enumerate(head)
    )
    lines = ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows]
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption, quote=True)}">'
        f'<table class="sortable"><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def block(title: str, note: str, content: str, anchor: str = "") -> str:
    """A titled box; ``note`` is plain text."""
    name = f' id="{anchor}"' if anchor else ""
    head = f'<h3>{escape(title)}</h3><p class="note">{escape(note)}</p>'
    return f'<section class="block"{name}>{head}{content}</section>'


def confusions(note: str, labels: Sequence[str], found: Iterable[tuple[str, Confusion]]) -> str:
    """A box of titled confusion matrices, shaded by the share of each true class."""
    heads = "".join(f'<th scope="col">called {escape(label)}</th>' for label in labels)
    items = []
    for title, matrix in found:
        lines = []
        for label, counts in zip(labels, matrix.rows, strict=True):
            total = max(sum(counts), 1)
            cells = "".join(
                f'<td style="background:rgba(var(--heat),{0.06 + 0.5 * n / total:.2f})"><b>{n}</b>'
                f"{percent(n / total, 0)}</td>"
                for n in counts
            )
            lines.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
        items.append(
            f'<div class="confusion"><h3>{escape(title)}</h3><table><thead><tr><th>truth</th>{heads}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>"
        )
    return block("Confusion matrices", note, f'<div class="confusions">{"".join(items)}</div>')


def beside(drawing: str, numbers: str, *, narrow: bool = False) -> str:
    """A drawing and its numbers, side by side if there is room."""
    return f'<div class="pair{" narrow" if narrow else ""}"><figure>{drawing}</figure>{numbers}</div>'


def document(title: str, header: str, navigation: Sequence[tuple[str, str]], main: str, footer: str) -> str:
    """The whole page, with style sheet and script inside."""
    style, script = (
        Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("report.css", "report.js")
    )
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name in navigation)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" '
        'content="no-referrer">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f'<header>{header}</header><nav aria-label="Sections"><div>{links}</div></nav>'
        f"<main>{main}</main><footer>{footer}</footer><script>{script}</script></body></html>\n"
    )


def _cell(cell: Cell) -> str:
    value = "" if cell.value is None else escape(str(cell.value), quote=True)
    return f'<td{" class=words" if cell.words else ""} data-v="{value}">{cell.content}</td>'
