"""Peak memory is that of this process and of what was asked to be measured."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from sonoedge.edge_runtime.device import peak_memory as peak
from tests.helpers.places import ROOT

BLOCK = 96 << 20

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")


def touched() -> bytearray:
    block = bytearray(BLOCK)
    block[::4096] = b"x" * len(block[::4096])
    return block


@linux
def test_a_measurement_can_begin_again() -> None:
    block = touched()
    before = peak.peak_bytes()
    del block
    assert peak.reset_peak()
    after = peak.peak_bytes()
    assert before is not None
    assert after is not None
    assert after < before - BLOCK // 2


@linux
def test_the_parents_peak_is_not_inherited() -> None:
    block = touched()
    script = "from sonoedge.edge_runtime.device.peak_memory import peak_bytes; print(peak_bytes())"
    child = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    del block
    assert int(child.stdout) < BLOCK


def test_a_system_that_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: no /proc, and no module ``resource``."""
    monkeypatch.setattr(peak, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(peak, "_CLEAR", tmp_path / "none" / "either")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert not peak.reset_peak()
    assert peak.peak_bytes() is None


def test_no_module_needs_what_windows_lacks() -> None:
    unix = {"resource", "fcntl", "pwd", "grp", "termios", "syslog", "pty"}
    found = []
    for package in ("edge_runtime", "train", "export", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found += [f"{path.name}: {name}" for name in names if name in unix]
    assert not found
