"""Blocks of figures in the documents: filled from the JSON, or compared with it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts.results.captions import caption
from scripts.results.figures import FIGURES
from scripts.results.tables import TABLES
from scripts.results.typed import typed_figures

RESULTS = Path("docs/results")
GUIDES = ("edge_runtime", "train", "export", "benchmarks", "android_demo")
_MADE_BY_PROGRAMS = {"build", "node_modules", "target"}
_TABLE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_FIGURE = re.compile(r"(<!-- figure (\w+) -->).*?(<!-- end -->)", re.DOTALL)
_START, _END = re.compile(r"<!-- (?:table|figure) "), "<!-- end -->"


def guides(root: Path) -> list[Path]:
    """README, every guide in a package, and what docs holds beside the results; by path from ``root``."""
    found = [Path("README.md")]
    for name in GUIDES:
        paths = (path.relative_to(root) for path in (root / name).rglob("*.md"))
        found += sorted(path for path in paths if _MADE_BY_PROGRAMS.isdisjoint(path.parts))
    own = (path.relative_to(root) for path in (root / "docs").rglob("*.md"))
    return found + sorted(path for path in own if not path.is_relative_to(RESULTS))


def pages(root: Path) -> list[Path]:
    """Results pages, by path from ``root``."""
    return sorted(path.relative_to(root) for path in (root / RESULTS).glob("*.md"))


def write(root: Path) -> list[str]:
    """Fill all blocks; returns the documents that changed."""
    changed = []
    for name, text, filled in _filled(root):
        if filled != text:
            (root / name).write_text(filled, encoding="utf-8")
            changed.append(name)
    return changed


def problems(root: Path) -> list[str]:
    """One line for each document that differs from the JSON, and for each typed figure in README or a guide."""
    stale = [name for name, text, filled in _filled(root) if filled != text]
    found = [
        f"{name}: figures differ from {RESULTS.as_posix()}. Run: python scripts/result_tables.py" for name in stale
    ]
    for path in guides(root):
        text = (root / path).read_text(encoding="utf-8")
        found += [
            f"{path.as_posix()}:{line}: typed figure {figure!r}. It belongs to {RESULTS.as_posix()}; "
            "CONTRIBUTING.md says how a guide shows it."
            for line, figure in typed_figures(without_blocks(text))
        ]
    return found


def without_blocks(text: str) -> str:
    """The text with its blocks blanked, line by line, so that line numbers stay."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match[0].count("\n")

    return _FIGURE.sub(blank, _TABLE.sub(blank, text))


def _filled(root: Path) -> Iterator[tuple[str, str, str]]:
    """Name, text and filled text of each document."""
    for path in (*guides(root), *pages(root)):
        text = (root / path).read_text(encoding="utf-8")
        yield path.as_posix(), text, _fill(root, path, text)


def _fill(root: Path, path: Path, text: str) -> str:
    blocks = [*_TABLE.finditer(text), *_FIGURE.finditer(text)]
    whole = len(_START.findall(text)) == text.count(_END) == len(blocks)
    if not whole or any(len(_START.findall(match[0])) > 1 for match in blocks):
        raise SystemExit(f"{path.as_posix()}: a table or figure lacks its {_END}, or the other way round.")

    def table(match: re.Match[str]) -> str:
        make, file = _known(TABLES, match[2], path)
        body = read_result(root, file)
        link = os.path.relpath(RESULTS / file, path.parent).replace(os.sep, "/")
        return f"{match[1]}{make(body)}\n\n{caption(body, link)}\n{match[3]}"

    def figure(match: re.Match[str]) -> str:
        make, file = _known(FIGURES, match[2], path)
        return f"{match[1]}{make(read_result(root, file))}{match[3]}"

    return _FIGURE.sub(figure, _TABLE.sub(table, text))


def read_result(root: Path, file: str) -> dict[str, Any]:
    """A file of docs/results. It must say how it was made."""
    body: dict[str, Any] = json.loads((root / RESULTS / file).read_text(encoding="utf-8"))
    if missing := [key for key in ("commands", "date", "machine", "weights") if key not in body]:
        raise SystemExit(f"{(RESULTS / file).as_posix()} does not say how it was made: {', '.join(missing)}.")
    return body


def _known(
    table: dict[str, tuple[Callable[[dict[str, Any]], str], str]], name: str, path: Path
) -> tuple[Callable[[dict[str, Any]], str], str]:
    if name not in table:
        raise SystemExit(f"{path.as_posix()}: no such figure: {name}. Known: {', '.join(table)}.")
    return table[name]
