"""``python -m train`` in a checkout: ``sonoedge train``."""

import sys

from sonoedge.edge_runtime.cli import main

# Everything that follows imports `sonoedge.train`: the bare name would make a second module of each file.
sys.modules.pop("train", None)
sys.exit(main(["train", *sys.argv[1:]]))
