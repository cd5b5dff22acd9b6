"""Tutorials: every code block of them runs, in the order of the page, in a copy of the example."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sonoedge.edge_runtime.children import child_environment
from tests.helpers.places import ROOT

FOLDER = ROOT / "docs" / "tutorials"
BY_CI = {"bash android_demo/check": ("scripts/ci/android.sh", "android_demo/check")}
"""Blocks marked ``bash`` are too long for a test; the named script runs the command."""
QUICK = ["android.md", "first-bundle.md", "raspberry-pi.md"]


def blocks(name: str) -> list[tuple[str, str]]:
    """Kind and text of each code block of a tutorial."""
    return re.findall(
        r"^```(\w*)\n(.*?)^```", (FOLDER / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def run_all(name: str, folder: Path) -> list[str]:
    """What each line printed. A comment ``exit code N`` says how a line ends; without one it ends with 0."""
    shutil.copytree(ROOT / "example", folder / "example")
    bin_folder = folder / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    command = bin_folder / "sonoedge"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m sonoedge.edge_runtime "$@"\n')
    command.chmod(0o755)
    printed = []
    for kind, text in blocks(name):
        if kind == "bash":
            assert text.strip() in BY_CI, text
            continue
        lines = (
            [("python", text)] if kind == "python" else [("", line) for line in text.splitlines() if line.strip()]
        )
        for language, line in lines:
            words = [sys.executable, "-P", "-c", line] if language else ["sh", "-c", line]
            done = subprocess.run(words, cwd=folder, env=child_environment(), capture_output=True, text=True)
            promised = re.search(r"# exit code (\d+)$", line)
            assert done.returncode == (int(promised[1]) if promised and not language else 0), (
                f"{line}\n{done.stderr}"
            )
            printed.append(done.stdout + done.stderr)
    return printed


def test_every_tutorial_is_run() -> None:
    assert sorted([*QUICK, "own-data.md", "README.md"]) == sorted(path.name for path in FOLDER.glob("*.md"))
    for command, (script, part) in BY_CI.items():
        assert part in (ROOT / script).read_text(encoding="utf-8"), command


@pytest.mark.long
@pytest.mark.parametrize("name", QUICK)
def test_the_blocks_of_a_tutorial_run(name: str, tmp_path: Path) -> None:
    printed = "".join(run_all(name, tmp_path))
    if name == "first-bundle.md":
        assert "MODEL_CARD.md" in printed, "the changed file must be named"
        assert (tmp_path / "heat" / "phantom.panel.png").is_file() and (tmp_path / "heat.png").is_file()
    if name == "raspberry-pi.md":
        assert (tmp_path / "device" / "current" / "bundle.json").is_file()


@pytest.mark.slow
def test_the_blocks_of_own_data_run(tmp_path: Path) -> None:
    run_all("own-data.md", tmp_path)
    assert (tmp_path / "bundle" / "bundle.json").is_file() and (tmp_path / "audit" / "audit.md").is_file()


@pytest.mark.long
def test_a_wrong_exit_code_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "pages" / "wrong.md"
    page.parent.mkdir()
    page.write_text("```\n.venv/bin/sonoedge verify nothing\n```\n")
    monkeypatch.setattr(sys.modules[__name__], "FOLDER", page.parent)
    with pytest.raises(AssertionError, match="verify nothing"):
        run_all("wrong.md", tmp_path / "folder")
