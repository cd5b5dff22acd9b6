"""From a trained Keras model to a verified bundle: split, convert, calibrate, quantize, write, replay.

Imports `train` (which it continues) and `edge_runtime` (which defines the bundle), nothing of `benchmarks`.
"""

from sonoedge import train  # noqa: F401 sets TensorFlow's environment variables
