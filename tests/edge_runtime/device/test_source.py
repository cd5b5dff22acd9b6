"""The digest of the code: of names and contents, wherever it lies, and of nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sonoedge.edge_runtime.device.source import PARTS, source_digest
from tests.helpers.places import ROOT


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A small package of the same shape."""
    for part in PARTS:
        (tmp_path / "a" / part / "inner").mkdir(parents=True)
        (tmp_path / "a" / part / "inner" / "one.py").write_text("1\n")
    return tmp_path / "a"


def test_links_of_a_checkout_do_not_matter(code: Path) -> None:
    linked = code.parent / "linked"
    linked.mkdir()
    for part in PARTS:
        (linked / part).symlink_to(code / part)
    assert source_digest(linked) == source_digest(code)
    assert source_digest(ROOT / "sonoedge") == source_digest()


def test_every_change_of_code_is_seen(code: Path) -> None:
    before = source_digest(code)
    (code / "train" / "README.md").write_text("words")
    (code / "train" / "__pycache__").mkdir()
    (code / "train" / "__pycache__" / "one.pyc").write_bytes(b"0")
    assert source_digest(code) == before
    for change in (
        lambda: (code / "export" / "inner" / "one.py").write_text("2\n"),
        lambda: (code / "export" / "inner" / "one.py").rename(code / "export" / "inner" / "two.py"),
        lambda: shutil.rmtree(code / "benchmarks"),
    ):
        change()
        after = source_digest(code)
        assert after != before
        before = after
