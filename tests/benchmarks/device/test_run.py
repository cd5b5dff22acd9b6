"""``sonoedge benchmark --device-run`` needs nothing of the workstation."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from sonoedge.benchmarks.records.runfile import read_runs
from tests.helpers.commands import Sono
from tests.helpers.measured_runs import FILES

OnDevice = Callable[..., subprocess.CompletedProcess[str]]


def test_device_run_needs_the_device_install(
    run_bundle: Path, tmp_path: Path, sonoedge: Sono, on_device: OnDevice
) -> None:
    """In an interpreter, and in workers, that refuse every package of the workstation."""
    out = tmp_path / "pi5.json"
    done = on_device(tmp_path, "benchmark", "--device-run", run_bundle, "--out", out, "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "tflite-int8" in done.stdout and "Research use only" in done.stdout
    (run,) = read_runs(out)
    assert run.data is None and run.reference is None
    assert all(c.timing and not c.error and c.logits is None for c in run.candidates)
    assert run.candidate("tflite-int8").stages_ms["decode"] > 0
    assert not list(tmp_path.glob(".*partial"))
    merged = sonoedge("report", out, "--out", tmp_path / "report")
    assert merged.code == 0 and sorted(p.name for p in (tmp_path / "report").iterdir()) == FILES
