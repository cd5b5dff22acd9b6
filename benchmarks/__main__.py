"""``python -m benchmarks`` in a checkout: ``sonoedge benchmark``."""

import sys

from sonoedge.edge_runtime.cli import main

# Without this the files would be loaded twice: all code below imports `sonoedge.benchmarks`.
sys.modules.pop("benchmarks", None)
sys.exit(main(["benchmark", *sys.argv[1:]]))
