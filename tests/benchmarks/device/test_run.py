"""``sonoedge benchmark --device-run`` needs nothing of the workstation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sonoedge.benchmarks.records.runfile import read_runs
from tests.helpers.commands import Sono
from tests.helpers.measured_runs import FILES
from tests.helpers.places import ROOT


def test_device_run_needs_the_device_install(run_bundle: Path, tmp_path: Path, sonoedge: Sono) -> None:
    """In an interpreter, and in workers, that refuse every package of the workstation."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "HEAVY = {'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib', 'h5py', 'tqdm', 'nncf', 'onnx'}\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in HEAVY | {'train', 'export'}:\n"
        "            raise ImportError(f'{name} is not on the device')\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    root = ROOT
    script = (
        "import sys; from sonoedge.benchmarks.measure import candidates; candidates.MODES['rapid'] = (5, 0.0);"
        "from sonoedge.edge_runtime.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "pi5.json"
    done = subprocess.run(
        [sys.executable, "-c", script, "benchmark", "--device-run", run_bundle, "--out", out, "--threads", "1"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tflite-int8" in done.stdout and "Research use only" in done.stdout
    (run,) = read_runs(out)
    assert run.data is None and run.reference is None
    assert all(c.timing and not c.error and c.logits is None for c in run.candidates)
    assert run.candidate("tflite-int8").stages_ms["decode"] > 0
    assert not list(tmp_path.glob(".*partial"))
    merged = sonoedge("report", out, "--out", tmp_path / "report")
    assert merged.code == 0 and sorted(p.name for p in (tmp_path / "report").iterdir()) == FILES
