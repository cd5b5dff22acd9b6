"""From a trained Keras model to a verified bundle: split, convert, calibrate, quantize, write, replay.

Imports `train` (which it continues) and `edge_runtime` (which defines the bundle), nothing of `benchmarks`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
