"""Fine-tuning of chosen blocks: on cached maps below them, or end to end on images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from sonoedge.train.data.dataset import Sample
from sonoedge.train.evaluation.results import History
from sonoedge.train.features.cache import load_input, with_copies
from sonoedge.train.fitting.feature_set import FeatureSet
from sonoedge.train.fitting.heads import fit_keras
from sonoedge.train.fitting.stopping import EpochOrder
from sonoedge.train.models.cut import Tail, unfreeze
from sonoedge.train.models.fusion import FusionModel
from sonoedge.train.records.settings import FitSettings


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
    copies: int = 0,
) -> History:
    """Train the head and chosen backbone layers, end to end on images.

    This is for layers so early that the maps below them do not fit into memory; else `fine_tune_tail` is quicker.
    Batch normalisation stays in inference mode, as is usual for small sets. After an interruption, the next call
    with the same ``backup`` folder goes on after the last finished epoch.

    Args:
        model: trained in place.
        train, val: images.
        layers: regular expression, see `train.models.cut.unfreeze`.
        settings: of the fit.
        seed: of the order of the images.
        backup: folder.
        progress: show a bar.
        copies: augmented copies per training image.

    Raises:
        UsageError: the expression is invalid or matches no layer with weights.
    """
    unfreeze(model, layers)
    size = model.full.input_shape[1:3]
    batches = ImageBatches(train, size, settings.batch_size, seed=seed, copies=copies)
    return fit_keras(
        model.full,
        batches,
        ImageBatches(val, size, settings.batch_size, seed=None),
        settings,
        np.array([sample.label for sample in train]),
        progress=progress,
        backup=backup,
        callbacks=[EpochOrder(batches)],
        stage="fine-tune",
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
    """Train the head and the layers above the cut on cached outputs of the trunks; ``backup``: see `fine_tune`."""
    keras.utils.set_random_seed(seed)
    return fit_keras(
        tail.model,
        (train.inputs(), train.targets()),
        (val.inputs(), val.targets()),
        settings,
        train.y,
        progress=progress,
        backup=backup,
        stage="fine-tune",
    )


class ImageBatches(keras.utils.PyDataset):
    """Batches of decoded images and their augmented copies, for end-to-end training.

    The order of an epoch depends only on the seed and on the number of the epoch, also after a restart. Without a
    seed the images keep their order. A batch is float32 (B, H, W, 3), 0–255, with labels float32 (B, 1).
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        size: tuple[int, int],
        batch_size: int,
        *,
        seed: int | None,
        copies: int = 0,
    ) -> None:
        super().__init__()
        self._rows = with_copies(samples, copies)
        self._size, self._batch_size, self._seed = size, batch_size, seed
        self.start(0)

    def start(self, epoch: int) -> None:
        """Shuffle for an epoch."""
        count = len(self._rows)
        order = np.arange(count)
        self._order = order if self._seed is None else np.random.default_rng([self._seed, epoch]).permutation(count)

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        rows = [self._rows[i] for i in chosen]
        x = np.stack([load_input(sample, copy, self._size) for sample, copy in rows])
        return x, np.array([[sample.label] for sample, _ in rows], np.float32)
