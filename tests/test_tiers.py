"""A unit run neither imports TensorFlow nor needs it, and says so if a test does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import ROOT
from tests.tiers import imports_tensorflow


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("train/models/backbones.py", True),
        ("export/gate/fit.py", True),  # through other modules of ours
        ("tests/export/guard/test_search.py", True),
        ("train/commands/train.py", False),  # within its functions
        ("edge_runtime/cli.py", False),
    ],
)
def test_imports_are_followed(path: str, expected: bool) -> None:
    assert imports_tensorflow(ROOT / path) is expected


def unit_run(folder: Path, **files: str) -> subprocess.CompletedProcess[str]:
    """`pytest -m unit` on these test files."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    unit\n    slow\n    tensorflow\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.tiers",
        "-p",
        "no:cacheprovider",
        "-m",
        "unit",
        ".",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_what_imports_keras_is_left_out(tmp_path: Path) -> None:
    within = "import pytest\n\n@pytest.fixture\ndef model():\n    import keras\n\n"
    within += "def test_by_fixture(model):\n    pass\n\ndef test_by_itself():\n    import keras\n\n"
    within += (
        "@pytest.mark.tensorflow\ndef test_marked():\n    raise AssertionError\n\ndef test_without():\n    pass\n"
    )
    result = unit_run(tmp_path, test_top="import keras\n", test_within=within)
    assert (result.returncode, "1 passed, 3 deselected" in result.stdout) == (0, True), result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", ["__import__('keras')", "__import__('sys').modules.update(keras=__import__('types'))"]
)
def test_a_unit_test_that_imports_keras_unsaid_fails_the_run(body: str, tmp_path: Path) -> None:
    result = unit_run(tmp_path, test_unsaid=f"def test_unsaid():\n    {body}\n")
    assert result.returncode == 1, result.stdout
