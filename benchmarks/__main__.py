"""``python -m benchmarks`` in a checkout: ``sonoedge benchmark``."""

import sys

from sonoedge.edge_runtime.cli import main

# One module for each file: all that follows imports `sonoedge.benchmarks`.
sys.modules.pop("benchmarks", None)
sys.exit(main(["benchmark", *sys.argv[1:]]))
