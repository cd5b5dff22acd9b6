"""``python -m edge_runtime`` in a checkout: ``sonoedge``."""

import sys

from sonoedge.edge_runtime.cli import main

# Without this the files would be loaded twice: all code below imports `sonoedge.edge_runtime`.
sys.modules.pop("edge_runtime", None)
sys.exit(main())
