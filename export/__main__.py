"""``python -m export`` in a checkout: ``sonoedge export``."""

import sys

from sonoedge.edge_runtime.cli import main

# Everything that follows imports `sonoedge.export`: the bare name would make a second module of each file.
sys.modules.pop("export", None)
sys.exit(main(["export", *sys.argv[1:]]))
