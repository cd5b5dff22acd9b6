"""Documents: links lead somewhere, commands and options exist, lines and paragraphs are short."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from scripts.results.documents import guides, pages
from sonoedge.edge_runtime.cli import COMMANDS
from tests.helpers.places import ROOT

GUIDES = guides(ROOT)
DOCUMENTS = [*GUIDES, *pages(ROOT), *map(Path, ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"))]
LONGEST_LINE = 120
LONGEST_PARAGRAPH = 9

FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)

each = pytest.mark.parametrize("path", DOCUMENTS, ids=str)
each_guide = pytest.mark.parametrize("path", GUIDES, ids=str)


@cache
def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCED.sub("", text))


def anchors(path: Path) -> set[str]:
    """Names that GitHub gives to the headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", text_of(path)), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def broken_links(path: Path, text: str) -> list[str]:
    """Relative links to files or headings that are not there."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / path.parent / file).resolve() if file else ROOT / path
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and anchor not in anchors(target.relative_to(ROOT))):
            broken.append(link)
    return broken


def commands_in(text: str) -> Iterator[tuple[str, list[str]]]:
    """Name and options of each ``sonoedge NAME …`` in code blocks and code spans."""
    lines = [line for block in FENCED.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`([^`]+)`", FENCED.sub("", text))
    for code in [*lines, *(" ".join(span.split()) for span in spans)]:
        for words in re.findall(r"(?<![\w./\-\"\[])(?:\S*/bin/)?sonoedge +([^#|;&>]*)", code):
            name, *rest = words.split() or [""]
            if re.fullmatch(r"[a-z][a-z-]*", name):
                yield name, [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]


@cache
def options_of(name: str) -> set[str]:
    """Options that the help of a command shows."""
    parser = argparse.ArgumentParser(add_help=True)
    import_module(COMMANDS[name][0]).add_arguments(parser)
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return {option for action in shown for option in action.option_strings}


def wrong_commands(text: str) -> list[str]:
    wrong = []
    for name, options in commands_in(text):
        if name not in COMMANDS:
            wrong.append(f"sonoedge {name}")
        else:
            wrong += [f"sonoedge {name} {option}" for option in options if option not in options_of(name)]
    return wrong


def unknown_options(text: str) -> list[str]:
    """Options in code spans that begin with one: some command must have each."""
    known = {option for name in COMMANDS for option in options_of(name)}
    spans = [span for span in re.findall(r"`([^`]+)`", FENCED.sub("", text)) if span.startswith("--")]
    return [
        word for span in spans for word in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", span) if word not in known
    ]


def long_lines(text: str) -> list[str]:
    """Lines of prose that are too long; a figure's comments do not count, a table row has no end."""
    plain = re.sub(r"<!-- (?:figure \w+|end) -->", "", FENCED.sub("", text))
    return [line for line in plain.splitlines() if len(line) > LONGEST_LINE and not line.startswith("|")]


def long_paragraphs(text: str) -> list[str]:
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", FENCED.sub("", text))
    return [p for p in parts if p.count("\n") + 1 > LONGEST_PARAGRAPH and not p.lstrip().startswith(("|", "<!--"))]


@each
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path, text_of(path)) == []


@each_guide
def test_commands_and_their_options_exist(path: Path) -> None:
    assert wrong_commands(text_of(path)) == []
    assert unknown_options(text_of(path)) == []


@each_guide
def test_lines_and_paragraphs_are_short(path: Path) -> None:
    assert long_lines(text_of(path)) == []
    assert long_paragraphs(text_of(path)) == []


def test_every_results_page_is_in_the_index() -> None:
    index = text_of(Path("docs/results/README.md"))
    assert [path.name for path in pages(ROOT) if path.name != "README.md" and f"({path.name})" not in index] == []
    for path in pages(ROOT):
        title = text_of(path).splitlines()[0]
        assert path.name == "README.md" or title.endswith("?"), f"{path}: the title is no question"


def test_the_checks_find_something() -> None:
    block = "```\n.venv/bin/sonoedge trian --data D  # --not-this\n```\n"
    assert wrong_commands(f"See `sonoedge predict --bundel b x.png`:\n{block}") == [
        "sonoedge trian",
        "sonoedge predict --bundel",
    ]
    assert wrong_commands("`sonoedge export --format\n  all`, then `pip install sonoedge --upgrade`") == []
    assert unknown_options("`--format all --fromat x`, `pip install --pre`") == ["--fromat"]
    links = "[a](README.md#limits) [b](nothing.md) [c](train/README.md#nothing) [d](https://example.org) `[e](e)`"
    assert broken_links(Path("README.md"), links) == ["nothing.md", "train/README.md#nothing"]
    assert long_lines("a " * 70) and not long_lines("| a " * 70)
    assert long_paragraphs("a\n" * 12) and not long_paragraphs("- a\n" * 12)
