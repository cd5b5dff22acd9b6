"""Features by several processes: each takes a part of the images, and all write to the same cache.

Frozen backbones take nearly all the time of a training run, image by image, so more processes help here. The shards
of the cache are complete or not there, so they need no lock. The training process itself computes what a worker
leaves undone, for example because it was killed.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from sonoedge.edge_runtime.children import safe_path
from sonoedge.train.features.input_wait import InputWait
from sonoedge.train.terminal import LOG

if TYPE_CHECKING:
    from sonoedge.train.data.dataset import Sample
    from sonoedge.train.records.settings import TrainSettings

Task = tuple[Sequence["Sample"], int]
"""Images, and the number of augmented copies of each."""


def compute_features_apart(
    settings: TrainSettings, tasks: Sequence[Task], *, cache: Path, workers: int, progress: bool
) -> InputWait:
    """Fill the cache with the features that a run needs.

    Args:
        settings: of the run.
        tasks: images, divided among the workers.
        cache: folder of cached features.
        workers: number of processes.
        progress: the first worker shows a bar.

    Returns:
        The waiting times of all workers, added up.

    Raises:
        SonoEdgeError: the error of a worker: an unreadable image, weights that cannot be had.
    """
    input_wait = InputWait()
    spawn = multiprocessing.get_context("spawn")
    with safe_path(), ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        parts = [
            pool.submit(
                _work,
                settings,
                [(samples[number::workers], copies) for samples, copies in tasks],
                cache,
                max(1, (os.cpu_count() or 1) // workers),
                progress and number == 0,
            )
            for number in range(workers)
        ]
        try:
            for part in parts:
                input_wait += part.result()
        except BrokenProcessPool:
            LOG.warning("a worker ended early; its images are computed by this process.")
    return input_wait


def _work(settings: TrainSettings, tasks: Sequence[Task], cache: Path, threads: int, progress: bool) -> InputWait:
    from sonoedge.train.quiet import quiet

    with quiet():
        import keras

        from sonoedge.train.features.cache import extract_features
        from sonoedge.train.fitting.steps import build, configure_keras
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    configure_keras(settings)
    model = build(settings)
    input_wait = InputWait()
    for samples, copies in tasks:
        if samples:
            extract_features(
                model.branches, samples, cache=cache, copies=copies, progress=progress, input_wait=input_wait
            )
    return input_wait
