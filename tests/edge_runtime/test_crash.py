"""A crash of native code says where it happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

CRASHING = """
import sys
sys.path.insert(0, {folder!r})
from sonoedge.edge_runtime import cli
cli.COMMANDS["predict"] = ("crashing", "crashes")
sys.argv = ["sonoedge", "predict"]
sys.exit(cli.main())
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(
    ("action", "number", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGILL)", signal.SIGILL, "Illegal instruction"),
        ("ctypes.string_at(0)", signal.SIGSEGV, "Segmentation fault"),
        ("os.abort()", signal.SIGABRT, "Aborted"),
    ],
)
def test_a_crash_names_the_package(action: str, number: int, words: str, tmp_path: Path) -> None:
    package = tmp_path / "numpy"
    package.mkdir()
    (package / "__init__.py").write_text(f"import os, signal, ctypes\n{action}\n")
    (tmp_path / "crashing.py").write_text("import numpy\ndef add_arguments(p): pass\ndef run(args): return 0\n")
    done = subprocess.run(
        [sys.executable, "-c", CRASHING.format(folder=str(tmp_path))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert done.returncode == -number
    assert f"Fatal Python error: {words}" in done.stderr
    assert str(package / "__init__.py") in done.stderr
