"""Tables of the workstation's commands, no wider than the terminal.

In a pipe and in a file, a table is the same text whatever the terminal is (`edge_runtime.terminal.aligned`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from itertools import groupby

from sonoedge.edge_runtime.terminal import Column, aligned, fits, listed, width, wrapped

_CUT = "…"
"""What rich puts in place of the end of a word for which a column is too narrow."""

__all__ = ["Column", "fitted", "for_terminal"]


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """A table for standard output: with cells of several lines if the terminal is narrow, else one line a row.

    If no word can be that narrow, it is a list (`edge_runtime.terminal.listed`).

    Args:
        columns: titles and widths.
        rows: a cell for each column. In a shorter row, the last cell is a remark in place of all that follow.
        indent: before each line.
    """
    room = width()
    wide = aligned(columns, rows, room, indent=indent)
    if room is None or fits(wide, room):
        return wide
    return _folded(columns, rows, room, indent) or listed(columns, rows, room, indent=indent)


def _folded(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int, indent: str) -> str | None:
    """The table with cells of several lines; None if a word would have to be broken."""
    from rich.console import Console
    from rich.table import Table

    # Cells hold intervals in square brackets, which would be markup.
    console = Console(
        file=StringIO(), width=room - len(indent), color_system=None, markup=False, emoji=False, highlight=False
    )
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.title, justify="left" if column.left else "right")
    remarks = []
    for row in rows:
        if len(row) == len(columns):
            table.add_row(*row)
        else:
            remarks.append(" ".join(row))
    with console.capture() as captured:
        console.print(table)
    if captured.get().count(_CUT) > sum(cell.count(_CUT) for row in rows for cell in row):
        return None
    lines = [f"{indent}{line.rstrip()}" for line in captured.get().splitlines()]
    for remark in remarks:
        lines += wrapped(remark, room, indent, f"{indent}    ")
    return "\n".join(lines)


def for_terminal(markdown: str) -> str:
    """A Markdown text with its tables drawn for the terminal; as it is if standard output is no terminal."""
    if width() is None:
        return markdown
    parts: list[str] = []
    for is_table, lines in groupby(markdown.split("\n"), lambda line: line.startswith("|")):
        if not is_table:
            parts += lines
            continue
        head, _, *rows = (_cells(line) for line in lines)
        parts.append(fitted([Column(title, left=True) for title in head], rows))
    return "\n".join(parts)


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]
