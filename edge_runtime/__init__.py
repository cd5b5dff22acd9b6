"""SonoEdge on the device: load a bundle, image -> result -> heat map. `sonoedge` hands out what is public of it.

Importing it imports neither NumPy nor Pillow: the command line must be able to say that one of them is missing.
"""

import sys
import typing

# OpenVINO and NNCF report imports and conversions to their makers if they can import this module; without it they
# work as well. Nothing may leave a machine that sees patients' images.
sys.modules.setdefault("openvino_telemetry", typing.cast(typing.Any, None))

__version__ = "0.1.0"
__all__: list[str] = []
