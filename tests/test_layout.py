"""Folders are tables of contents: a handful of short files each."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from fnmatch import fnmatch

import pytest

from tests.helpers.places import ROOT

FOLDERS = ("edge_runtime", "train", "export", "benchmarks", "scripts", "tests")
MOST_FILES = 12
MOST_LINES = 300


@pytest.mark.parametrize("name", FOLDERS)
def test_few_files_and_short_ones(name: str) -> None:
    files = [path for path in (ROOT / name).rglob("*.py") if "node_modules" not in path.parts]
    assert files
    counted = Counter(str(path.parent.relative_to(ROOT)) for path in files if path.name != "__init__.py")
    assert {folder: count for folder, count in counted.items() if count > MOST_FILES} == {}
    lines = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in files}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_the_wheel_holds_every_file_that_the_code_reads() -> None:
    """Templates, style sheets, scripts and schemas: a pattern of the package data takes each of them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["*"]
    files = [
        path.relative_to(ROOT).as_posix()
        for name in FOLDERS[:4]
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc", ".md"}
    ]
    assert "benchmarks/report/templates/report.html.j2" in files
    assert [path for path in files if not any(fnmatch(path.rpartition("/")[2], p) for p in patterns)] == []


def test_pages_are_written_by_templates() -> None:
    """HTML that Python puts together is escaped only where somebody thought of it; templates escape everything."""
    tag = re.compile(r"<(?:article|div|figure|h[1-6]|html|img|li|p|section|span|table|td|th|tr|ul)\b")
    files = [path for name in ("train", "export", "benchmarks") for path in (ROOT / name).rglob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in files if tag.search(path.read_text(encoding="utf-8"))] == []
