"""Fine-tuning of chosen blocks: on cached maps below them, or end to end on images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from train.data import Sample
from train.features import load_input
from train.fit import FeatureSet, FitSettings, History, fit_keras
from train.model import FusionModel
from train.tail import Tail, unfreeze


def fine_tune(
    model: FusionModel,
    train: Sequence[Sample],
    val: Sequence[Sample],
    *,
    layers: str,
    settings: FitSettings,
    seed: int,
    backup: Path,
    progress: bool,
) -> History:
    """Train the head and the backbone layers whose name matches a regular expression, end to end on images.

    For layers so early that the maps below them do not fit into memory; else `fine_tune_tail` is quicker. Batch
    normalisation stays in inference mode, as is usual for small sets. Interrupted, the next call with the same
    ``backup`` folder goes on after the last finished epoch.

    Raises:
        UsageError: the expression is invalid or matches no layer with weights.
    """
    unfreeze(model, layers)
    size = model.full.input_shape[1:3]
    return fit_keras(
        model.full,
        ImageBatches(train, size, settings.batch_size, seed=seed),
        ImageBatches(val, size, settings.batch_size, seed=None),
        settings,
        np.array([sample.label for sample in train]),
        progress=progress,
        callbacks=[keras.callbacks.BackupAndRestore(backup)],
    )


def fine_tune_tail(
    tail: Tail,
    train: FeatureSet,
    val: FeatureSet,
    settings: FitSettings,
    *,
    seed: int,
    progress: bool,
    backup: Path | None = None,
) -> History:
    """Train the head and the layers above the cut on cached values of the trunks; `backup` as for `fine_tune`."""
    keras.utils.set_random_seed(seed)
    return fit_keras(
        tail.model,
        (train.inputs(), train.targets()),
        (val.inputs(), val.targets()),
        settings,
        train.y,
        progress=progress,
        callbacks=[keras.callbacks.BackupAndRestore(backup)] if backup else [],
    )


class ImageBatches(keras.utils.PyDataset):
    """Batches of decoded images for end-to-end training; shuffled each epoch unless ``seed`` is None."""

    def __init__(
        self, samples: Sequence[Sample], size: tuple[int, int], batch_size: int, *, seed: int | None
    ) -> None:
        super().__init__()
        self._samples, self._size, self._batch_size = list(samples), size, batch_size
        self._rng = None if seed is None else np.random.default_rng(seed)
        self._order = np.arange(len(self._samples))
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self._samples) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        samples = [self._samples[i] for i in chosen]
        x = np.stack([load_input(sample, 0, self._size) for sample in samples])
        return x, np.array([[sample.label] for sample in samples], np.float32)

    def on_epoch_end(self) -> None:
        if self._rng is not None:
            self._rng.shuffle(self._order)
