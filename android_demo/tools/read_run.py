"""read_run.py FILE…: run files that the app's benchmark screen wrote, through the reader of `sonoedge report`."""

import sys
from pathlib import Path

from sonoedge.benchmarks.measure.turns import typical_ms
from sonoedge.benchmarks.records.runfile import read_runs

for run in [run for path in sys.argv[1:] for run in read_runs(Path(path))]:
    for candidate in run.candidates:
        assert candidate.timing is not None
        typical = typical_ms(candidate.timing, candidate.escalated)
        samples = len(candidate.timing.samples_ms)
        print(f"{run.bundle} {candidate.name}: {samples} samples, {typical:.2f} ms, {run.machine.system}")
