"""Docstrings as the reference reads them: ``first, full: text`` documents two parameters at once."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SHARED = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.*)$", re.MULTILINE)


class SharedLines(griffe.Extension):
    """Gives each parameter of a shared line a line of its own before griffe parses the docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that was loaded."""
        if obj.docstring:
            obj.docstring.value = apart(obj.docstring.value)


def apart(text: str) -> str:
    """The text, with ``a, b: text`` as ``a: text`` and ``b: see a``."""
    head, mark, rest = text.partition("Args:\n")
    if not mark:
        head, mark, rest = text.partition("Attributes:\n")

    def lines(match: re.Match[str]) -> str:
        first, *others = match["names"].split(", ")
        seen = "".join(f"{match['indent']}{name}: See `{first}`.\n" for name in others)
        return f"{seen}{match['indent']}{first}: {match['text']}"

    return head + mark + _SHARED.sub(lines, rest)
