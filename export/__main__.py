"""``python -m export`` in a checkout: ``sonoedge export``."""

import sys

from sonoedge.edge_runtime.cli import main

# One module for each file: all that follows imports `sonoedge.export`.
sys.modules.pop("export", None)
sys.exit(main(["export", *sys.argv[1:]]))
