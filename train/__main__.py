"""``python -m train`` in a checkout: ``sonoedge train``."""

import sys

from sonoedge.edge_runtime.cli import main

# One module for each file: all that follows imports `sonoedge.train`.
sys.modules.pop("train", None)
sys.exit(main(["train", *sys.argv[1:]]))
