"""read_run.py FILE…: run files that the app's benchmark screen wrote, through the reader of `sonoedge report`."""

import sys
from pathlib import Path

from benchmarks.runfile import read_runs
from benchmarks.turns import typical_ms

for run in [run for path in sys.argv[1:] for run in read_runs(Path(path))]:
    for candidate in run.candidates:
        assert candidate.timing is not None
        typical = typical_ms(candidate.timing, candidate.escalated)
        samples = len(candidate.timing.samples_ms)
        print(f"{run.bundle} {candidate.name}: {samples} samples, {typical:.2f} ms, {run.machine.system}")
