"""``python -m edge_runtime`` in a checkout: ``sonoedge``."""

import sys

from sonoedge.edge_runtime.cli import main

# One module for each file: all that follows imports `sonoedge.edge_runtime`.
sys.modules.pop("edge_runtime", None)
sys.exit(main())
