"""Datasets, splits, backbones, the fusion model, the frozen-feature cache and fitting.

Imports `edge_runtime` (image decoding, files, errors) and nothing of `export` or `benchmarks`.
"""

import os

# TensorFlow's start-up notes about CPU features and missing CUDA would bury our own output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# By itself, TensorFlow uses oneDNN's kernels only on processors with int8 dot products; others gain, too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
