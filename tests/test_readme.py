"""README: short, plain, and every code block of it runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.checks import readme
from sonoedge.edge_runtime.children import child_environment
from tests.helpers.places import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, flags=re.DOTALL)
SMALL = {
    # What makes the commands quick; nothing else is changed. BUSI is a folder of simulated pictures.
    "train": ["--backbones", "mobilenetv2", "--weights", "none", "--input-size", "64", "--augment", "0"],
    "benchmark": ["--mode", "none", "--no-gallery", "--no-peers"],
}


def commands(block: str) -> list[list[str]]:
    """The words of each line, without its comment."""
    return [line.partition("#")[0].split() for line in block.splitlines() if line.strip()]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A checkout as the commands see it: the example, and images in ``BUSI``."""
    shutil.copytree(ROOT / "example", tmp_path / "example")
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-P", *words], cwd=folder, env=child_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_short_and_plain() -> None:
    assert len(TEXT.split()) <= readme.MOST_WORDS
    assert readme.reading_ease(readme.prose(TEXT)) >= readme.LEAST_EASE
    assert readme.reading_ease("The cat sat on the mat.") > 100
    assert readme.reading_ease("Quantization necessitates representative calibration distributions.") < 0


def test_the_checks_know_every_block() -> None:
    """A new block needs a test of its own below."""
    kinds = [kind or next(iter(commands(block)), [""])[0] for kind, block in BLOCKS]
    assert kinds == ["bash", ".venv/bin/sonoedge", "python", "sonoedge", "images"]


def test_the_set_up_is_what_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    setup, demo = "bash scripts/setup.sh", '"$bin/sonoedge" demo'
    for words in commands(BLOCKS[0][1]):
        assert words[:3] == ["bash", "scripts/setup.sh", "&&"]
    assert [words[3] for words in commands(BLOCKS[0][1])] == [".venv/bin/sonoedge", ".venv/bin/pytest"]
    assert setup in script and demo in script and "bash scripts/ci/integration.sh" in script
    assert '"$bin/pytest"' in (ROOT / "scripts" / "ci" / "integration.sh").read_text(encoding="utf-8")


@pytest.mark.long
def test_sixty_seconds(folder: Path) -> None:
    for words in commands(BLOCKS[1][1]):
        assert words[0] == ".venv/bin/sonoedge"
        printed = run(["-m", "sonoedge.edge_runtime", *words[1:]], folder)
    promised = re.search(r"prints `([^`]*)`", TEXT)
    assert promised and printed.startswith(promised[1])
    assert (folder / "heat" / "phantom.panel.png").is_file()
    run(["-c", BLOCKS[2][1]], folder)
    assert (folder / "heat.png").is_file()


def test_the_example_is_small_and_of_simulated_images() -> None:
    size = sum(path.stat().st_size for path in (ROOT / "example").rglob("*") if path.is_file())
    assert size <= 2_000_000


@pytest.mark.slow
def test_your_own_images(folder: Path, phantoms: Path) -> None:
    (folder / "BUSI").symlink_to(phantoms)
    for words in commands(BLOCKS[3][1]):
        assert words[0] == "sonoedge"
        run(["-m", "sonoedge.edge_runtime", *words[1:], *SMALL.get(words[1], [])], folder)
    assert (folder / "report" / "report.html").is_file()
    assert list((folder / "heat").rglob("*.panel.png"))
