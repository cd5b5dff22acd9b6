"""``predict`` and ``explain`` count on standard error, if that is a terminal; standard output holds the answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sonoedge.edge_runtime import terminal
from tests.helpers.commands import Result, Sono
from tests.helpers.places import ROOT

VECTORS = ROOT / "tests" / "vectors"
IMAGES = [VECTORS / "pictures" / name for name in ("grey.png", "truncated.png", "rgb.png", "palette.png")]


@pytest.fixture
def watched(sonoedge: Sono, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sono:
    """Runs a command as if standard error were a terminal, and shows every step."""

    def run(*arguments: object) -> Result:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(terminal, "_REDRAW_SECONDS", 0.0)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        return sonoedge(*arguments)

    return run


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_images_are_counted(command: str, watched: Sono) -> None:
    arguments = (command, "--bundle", VECTORS / "bundle", "--json", "--ungated", *IMAGES)
    found = watched(*arguments)
    assert found.code == 3
    assert [json.loads(line)["image"] for line in found.out.splitlines()] == [
        str(image) for image in IMAGES if image.stem != "truncated"
    ]
    for done, share in enumerate((25, 50, 75, 100), start=1):
        assert f"\r{done} of 4 images ({share} %), " in found.err
    # The counter's line is empty before an error begins in it.
    assert f"\rerror: {IMAGES[1]} cannot be decoded" in found.err
    assert found.err.endswith("\rerror: 1 of 4 images could not be {}.\n".format(
        {"predict": "read", "explain": "explained"}[command]
    ))  # fmt: skip


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_quiet_counts_nothing(command: str, watched: Sono) -> None:
    found = watched(command, "--bundle", VECTORS / "bundle", "--quiet", "--ungated", *IMAGES)
    assert len(found.out.splitlines()) == 3
    assert "\r" not in found.err and "of 4 images (" not in found.err
