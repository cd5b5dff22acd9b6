"""What a command shows on a terminal: tables no wider than it, and a counter of what is done.

Pipes, files and tests get the same text whatever the terminal is: a table is folded only if standard output is a
terminal (`width`).
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from types import TracebackType
from typing import TextIO

_REDRAW_SECONDS = 0.1
_READABLE = 20
"""Characters that a column of text needs."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: of the column; it may be empty.
        width: at least, with the gap to the neighbour, if there is room.
        left: whether the cells begin at the left edge.
    """

    title: str
    width: int = 0
    left: bool = False


def width() -> int | None:
    """How many characters a line of the terminal holds; None if standard output is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """A table for standard output: `aligned`, in a narrow terminal with narrower columns, else `listed`.

    Args:
        columns: titles and widths.
        rows: a cell for each column. In a shorter row, the last cell is a remark in place of all that follow.
        indent: before each line.
    """
    room = width()
    wide = aligned(columns, rows, room, indent=indent)
    if room is None or fits(wide, room):
        return wide
    tight = aligned([replace(column, width=0) for column in columns], rows, room, indent=indent)
    return tight if fits(tight, room) else listed(columns, rows, room, indent=indent)


def fits(text: str, room: int) -> bool:
    """Whether no line is longer than ``room``."""
    return max(map(len, text.splitlines()), default=0) <= room


def aligned(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int | None = None, *, indent: str = ""
) -> str:
    """A table with one line for each row; only remarks are folded, to ``room``. Arguments as for `fitted`."""
    shown = [[column.title for column in columns], *rows]
    whole = [row for row in shown if len(row) == len(columns)]
    widths = []
    for i, column in enumerate(columns):
        # A column at the right edge has its gap before it, a column at the left edge after it.
        gap = not column.left or (columns[i + 1 : i + 2] and columns[i + 1].left)
        cells = [row[i] for row in (whole if i else shown)]
        widths.append(max(column.width, *(len(cell) + bool(gap) for cell in cells)))
    lines = []
    for row in shown:
        if len(row) == len(columns):
            lines.append(indent + _cells(columns, widths, row).rstrip())
            continue
        line = f"{_cells(columns, widths, row[:-1])} {row[-1]}"
        lines += [indent + line] if room is None else wrapped(line, room, indent, f"{indent}    ")
    return "\n".join(lines)


def _cells(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    text = ""
    for i, cell in enumerate(cells):
        if columns[i].left:
            gap = "  " if i and not columns[i - 1].left else ""
            text += f"{gap}{cell:<{widths[i]}}"
        else:
            text += f"{cell:>{widths[i]}}"
    return text


def listed(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int, *, indent: str = "") -> str:
    """A table as a list: each row's first cell, and below it ``title: cell`` for the others that are not empty."""
    lines = []
    for row in rows:
        lines += wrapped(row[0], room, indent, indent) or [""]
        if len(row) == len(columns):
            named = zip(columns[1:], row[1:], strict=True)
            parts = [f"{c.title}: {cell}" if c.title else cell for c, cell in named if cell.strip()]
        else:
            parts = [cell for cell in row[1:] if cell.strip()]
        lines += _filled(parts, room, f"{indent}  ")
    return "\n".join(lines)


def _filled(parts: Sequence[str], room: int, indent: str) -> list[str]:
    """Parts side by side, as many as a line holds; a part is broken only if it is longer than a line."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= room:
            lines[-1] += f"  {part}"
        else:
            lines += wrapped(part, room, indent, f"{indent}  ")
    return lines


def hanging(lead: str, text: str) -> str:
    """``lead`` and ``text``; in a narrow terminal the text goes on below its own beginning.

    Args:
        lead: for example a name, padded to a column's width.
        text: what is said about it.
    """
    room = width()
    if room is None or len(lead) + len(text) <= room:
        return lead + text
    column = " " * len(lead)
    if room - len(lead) >= _READABLE:
        return "\n".join(wrapped(text, room, lead, column))
    lines = [lead.rstrip()] if lead.strip() else []
    return "\n".join([*lines, *wrapped(text, room, "    ", "    ")])


def wrapped(text: str, room: int, first: str, later: str) -> list[str]:
    """A text in lines of at most ``room`` characters, which begin with ``first`` and ``later``."""
    # Names such as tflite-int8 stay whole.
    return textwrap.wrap(text, room, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


class Progress:
    """A counter in the last line of the terminal: ``12 of 300 images (4 %), 2 min 10 s left``.

    It is written to standard error if that is a terminal. It is not shown while a pipe reads standard output: the
    program at its other end may write to the same terminal.
    """

    def __init__(
        self, total: int, what: str, *, wanted: bool = True, clock: Callable[[], float] = perf_counter
    ) -> None:
        """Count to ``total``; ``what`` is counted, in the plural. ``wanted`` false shows nothing."""
        self._total, self._what, self._clock = total, what, clock
        self._seen = wanted and sys.stderr.isatty() and not _is_pipe()
        self._shown = self._seen and total > 1
        self._done, self._counter = 0, ""
        self._started = self._last = clock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def step(self) -> None:
        """Count one more."""
        self._done += 1
        now = self._clock()
        if self._shown and now - self._last >= _REDRAW_SECONDS:
            self._last = now
            self._draw(self._text(now - self._started))

    def inside(self, done: int, total: int) -> None:
        """Show how far the thing is that is being worked on: ``done`` of ``total`` steps."""
        now = self._clock()
        if self._seen and now - self._last >= _REDRAW_SECONDS:
            self._last = now
            place = f"{self._done + 1} of {self._total} {self._what}: " if self._total > 1 else ""
            self._draw(f"{place}{done} of {total} steps ({100 * done // max(1, total)} %)")

    def say(self, text: str, stream: TextIO | None = None) -> None:
        """Print a line to a stream (None: standard output); the counter moves below it."""
        stream = stream or sys.stdout
        counter = self._counter if stream.isatty() else ""
        if counter:
            self.clear()
        print(text, file=stream, flush=True)
        if counter:
            self._draw(counter)

    def clear(self) -> None:
        """Empty the line of the counter."""
        if self._counter:
            print(f"\r{' ' * len(self._counter)}\r", end="", file=sys.stderr, flush=True)
            self._counter = ""

    def _text(self, elapsed: float) -> str:
        left = elapsed / self._done * (self._total - self._done)
        share = 100 * self._done // self._total
        text = f"{self._done} of {self._total} {self._what} ({share} %), {duration(left)} left"
        # The last column stays empty: a character there would begin a new line.
        return text[: shutil.get_terminal_size().columns - 1]

    def _draw(self, text: str) -> None:
        print(f"\r{text:<{len(self._counter)}}", end="", file=sys.stderr, flush=True)
        self._counter = text


def duration(seconds: float) -> str:
    """Seconds in words: ``8 s``, ``2 min 10 s``, ``1 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _is_pipe() -> bool:
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
