"""A Python that has no more than a device has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

# Read by every interpreter that has the folder on its PYTHONPATH, workers included.
REFUSING = """
import sys
HEAVY = ("tensorflow", "keras", "sklearn", "scipy", "matplotlib", "h5py", "tqdm", "nncf", "onnx")
OURS = ("sonoedge.train", "sonoedge.export")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY or name in OURS or name.startswith(tuple(f"{ours}." for ours in OURS)):
            raise ImportError(f"{name} is not on the device")
sys.meta_path.insert(0, Refuse())
"""
COMMAND = (
    "import sys; from sonoedge.benchmarks.measure import candidates; candidates.MODES['rapid'] = (5, 0.0);"
    "from sonoedge.edge_runtime.cli import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="session")
def on_device() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command, its workers included, without any package of the workstation; called with a folder first."""

    def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        (folder / "sitecustomize.py").write_text(REFUSING)
        return subprocess.run(
            [sys.executable, "-c", COMMAND, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}, capture_output=True, text=True,
        )  # fmt: skip

    return run
