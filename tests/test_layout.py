"""Folders are tables of contents: a handful of short files each."""

from __future__ import annotations

from collections import Counter

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
