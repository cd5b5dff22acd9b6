"""Datasets, splits, backbones, the fusion model, the frozen-feature cache and fitting.

Imports `edge_runtime` (image decoding, files, errors) and nothing of `export` or `benchmarks`. The public functions
and what they return are imported when they are asked for: importing this package costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonoedge.train.api import audit, distill, score, slim, train
    from sonoedge.train.callbacks import EpochEnded, FeaturesComputed, RunFinished
    from sonoedge.train.data.audit import Audit
    from sonoedge.train.evaluation.run_folder import TrainedRun, open_run
    from sonoedge.train.experiments.scoring import Score

# TensorFlow's start-up notes about CPU features and missing CUDA would bury our own output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# By itself, TensorFlow uses oneDNN's kernels only on processors with int8 dot products; others gain, too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__all__ = [
    "Audit",
    "EpochEnded",
    "FeaturesComputed",
    "RunFinished",
    "Score",
    "TrainedRun",
    "audit",
    "distill",
    "open_run",
    "score",
    "slim",
    "train",
]

_PLACES = {
    "Audit": "data.audit",
    "EpochEnded": "callbacks",
    "FeaturesComputed": "callbacks",
    "RunFinished": "callbacks",
    "Score": "experiments.scoring",
    "TrainedRun": "evaluation.run_folder",
    "audit": "api",
    "distill": "api",
    "open_run": "evaluation.run_folder",
    "score": "api",
    "slim": "api",
    "train": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
