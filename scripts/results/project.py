"""The tables about the project itself: where its tests ran, and what they notice."""

from __future__ import annotations

from html import escape
from typing import Any

from sonoedge.train.markdown import markdown_table


def support(body: dict[str, Any]) -> str:
    """What ran and what did not; ``body`` is support.json."""
    lines = []
    for row in body["pythons"]:
        ran = row["outcome"] != "not run"
        counts = [str(row[key]) for key in ("passed", "failed", "skipped", "seconds")] if ran else ["–"] * 4
        outcome = f"{row['outcome']}: {', '.join(row['tests'])}" if ran else f"not run: {row['why']}"
        lines.append([f"Python {row['python']}", outcome, *counts])
    lines += [[row["what"], f"not run: {row['why']}", "–", "–", "–", "–"] for row in body["not_run"]]
    return markdown_table(["where", "outcome", "passed", "failed", "skipped", "s"], lines)


def mutants(body: dict[str, Any]) -> str:
    """How many mutants of each target were killed; ``body`` is mutants.json."""
    lines = [
        [
            row["target"], ", ".join(f"`{name}`" for name in row["files"]), str(row["possible"]), str(row["tried"]),
            str(row["killed"]), str(row["tried"] - row["killed"]),
        ]
        for row in body["targets"]
    ]  # fmt: skip
    lines += [[name, "not run", "–", "–", "–", "–"] for name in body["not_run"]]
    return markdown_table(["what", "files", "possible", "tried", "killed", "survived"], lines)


def survivors(body: dict[str, Any]) -> str:
    """Every mutant that no test noticed; ``body`` is mutants.json."""
    lines = [
        [f"`{found['file'].rpartition('/')[2]}:{found['line']}`", _code(found["before"]), _code(found["after"])]
        for row in body["targets"]
        for found in row["mutants"]
        if not found["killed"]
    ]
    return markdown_table(["where", "before", "after"], lines or [["–", "–", "–"]])


def _code(text: str) -> str:
    """A code span that a table cell can hold."""
    if "|" in text or "`" in text:
        return f"<code>{escape(text, quote=False).replace('|', '&#124;')}</code>"
    return f"`{text}`"
