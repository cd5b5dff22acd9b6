"""Words of the glossary in CONTRIBUTING.md, explained where they first stand on a page of the site."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from pathlib import Path

_EVERYDAY = {"branch", "run", "record", "source", "targets", "decision", "recipe", "head", "site"}
"""Words of the glossary that mean something else in most sentences: a mark at the wrong place explains nothing."""
_SKIPPED = {"a", "code", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "abbr", "svg", "th"}
_TAG = re.compile(r"(<[^>]*>)")


@cache
def glossary(root: Path) -> dict[str, str]:
    """Word and meaning, from the table below the heading Words."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Words\n")[2].partition("\n## ")[0]
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 2 and not re.fullmatch(r"-+", cells[0]) and cells[0] != "word":
            for word in re.split(r", ", cells[0]):
                found[word] = re.sub(r"[`*]", "", cells[1])
    return found


def explained(html: str, meanings: dict[str, str]) -> str:
    """The page with an ``abbr`` around the first plain occurrence of each word."""
    left = {word: meaning for word, meaning in meanings.items() if word not in _EVERYDAY}
    inside: list[str] = []
    parts = _TAG.split(html)
    for number, part in enumerate(parts):
        if name := re.match(r"</?([a-z][a-z0-9]*)", part):
            if part.startswith("</"):
                if inside and inside[-1] == name[1]:
                    inside.pop()
            elif name[1] in _SKIPPED and not part.endswith("/>"):
                inside.append(name[1])
        elif not inside and left and not part.startswith("<"):
            parts[number] = _marked(part, left)
    return "".join(parts)


def _marked(text: str, left: dict[str, str]) -> str:
    for word in sorted(left, key=len, reverse=True):
        pattern = re.compile(rf"(?<![\w<\"-])({re.escape(word)}s?)(?![\w-])(?![^<]*</abbr>)", re.IGNORECASE)
        text, count = pattern.subn(rf'<abbr title="{escape(left[word])}">\1</abbr>', text, count=1)
        if count:
            del left[word]
    return text
