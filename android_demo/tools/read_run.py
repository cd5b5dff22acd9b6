"""read_run.py FILE: the run file that the app's benchmark screen wrote, through the reader of `sonoedge report`."""

import sys
from pathlib import Path

from benchmarks.runfile import read_runs

for run in read_runs(Path(sys.argv[1])):
    for candidate in run.candidates:
        assert candidate.timing is not None
        print(f"{run.bundle} {candidate.name}: {len(candidate.timing.samples_ms)} samples, {run.machine.system}")
