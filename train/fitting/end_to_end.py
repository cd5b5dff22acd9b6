"""Training all layers at once on augmented images, with the lesion's mask as a second teacher.

Batches are balanced: every source and class has the same share of an epoch, so that neither a large hospital nor
a frequent class decides. Batch normalisation keeps its ImageNet statistics. The number of epochs is fixed; no epoch
is chosen by its validation loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoedge.edge_runtime.imaging.image import read_image, resize
from sonoedge.edge_runtime.imaging.masks import read_mask
from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.train.callbacks import keras_listeners
from sonoedge.train.data.dataset import Sample
from sonoedge.train.evaluation.results import History
from sonoedge.train.features.policy import Mask, Policy, changed, find_policy
from sonoedge.train.fitting.heads import EpochBar
from sonoedge.train.fitting.stopping import EpochOrder, Recorded
from sonoedge.train.models.cut import unfreeze
from sonoedge.train.models.fusion import FusionModel, backbone_input
from sonoedge.train.models.lesion import lesion_logits
from sonoedge.train.records.settings import FitSettings, TrainSettings
from sonoedge.train.terminal import LOG

_SPARE_PIXELS = 1.7
"""Decoded images are kept at most so many times as large as the input: a crop of 60 % still fills it."""
_HELD_BYTES = 1 << 30
"""Decoded images up to this size are held in memory; the others are decoded again in every epoch."""
_UNTIMED, _TIMED = 2, 8
Lesion = tuple[NDArray[np.float32], NDArray[np.float32]]


def train_end_to_end(
    model: FusionModel,
    samples: Sequence[Sample],
    fit: FitSettings,
    settings: TrainSettings,
    *,
    progress: bool,
    backup: Path | None = None,
) -> History:
    """Train all layers of a model in place, normalisation excepted.

    Args:
        model: from `train.models.fusion.build_model`. If its maps are those of `train.models.lesion`, the masks
            of the images teach it where the lesion lies; images without a mask do not count there.
        samples: training images.
        fit: rate, batch size and epochs.
        settings: the rest; the seed decides order and augmentation.
        progress: show a bar.
        backup: folder; after an interruption the next call goes on after the last finished epoch.

    Returns:
        The losses by epoch.

    Raises:
        ImageError: an image or mask cannot be decoded.
        UsageError: the policy cannot be used.
    """
    policy = find_policy(settings.augment_policy)
    keras.utils.set_random_seed(settings.seed)
    unfreeze(model, ".*")
    network, grids = with_lesions(model)
    batches = BalancedBatches(samples, network.input_shape[1:3], fit.batch_size, policy, grids, seed=settings.seed)
    steps = len(batches) * fit.epochs
    rate = keras.optimizers.schedules.CosineDecay(
        fit.learning_rate * 0.01,
        max(steps - math.ceil(settings.warm_up * steps), 1),
        alpha=0.0,
        warmup_target=fit.learning_rate,
        warmup_steps=math.ceil(settings.warm_up * steps),
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=fit.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    share = settings.lesion_weight / max(len(grids), 1)
    network.compile(
        optimizer,
        loss={
            "logit": keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing),
            **{name: keras.losses.BinaryCrossentropy(from_logits=True) for name in grids},
        },
        loss_weights={"logit": 1.0, **dict.fromkeys(grids, share)},
        jit_compile="auto" if keras.config.backend() == "jax" else False,
    )
    recorded = Recorded(backup)
    restore = [keras.callbacks.BackupAndRestore(backup)] if backup else []
    network.fit(
        batches,
        epochs=fit.epochs,
        shuffle=False,  # the batches have an order of their own
        callbacks=[
            EpochOrder(batches), *restore, recorded, _Estimate(steps, len(samples)),
            EpochBar(fit.epochs, progress, "end-to-end"),
            *keras_listeners(),
        ],
        verbose=0,
    )  # fmt: skip
    return recorded.history


def with_lesions(model: FusionModel) -> tuple[keras.Model, dict[str, tuple[int, int]]]:
    """A model with all that is taught as its outputs, sharing its layers: ``logit`` and a lesion by backbone.

    Returns:
        The network, image (N, H, W, 3) -> logits by name, and the grid (h, w) of each lesion.
    """
    image = model.full.inputs[0]
    pooled, lesions, grids = [], {}, {}
    for name, backbone in model.backbones.items():
        value = backbone_input(model.full, name)
        logits = lesion_logits(backbone)
        if logits is None:
            maps = backbone(value)
        else:
            maps, lesion = keras.Model(backbone.input, [backbone.output, logits], name=f"{name}_taught")(value)
            lesions[f"{name}_lesion"] = keras.layers.Identity(name=f"{name}_lesion", dtype="float32")(lesion)
            grids[f"{name}_lesion"] = (int(lesion.shape[1]), int(lesion.shape[2]))
        pooled.append(model.branches[name].layers[-1](maps))
    logit = model.head_logit(pooled if len(pooled) > 1 else pooled[0])
    outputs = {"logit": keras.layers.Identity(name="class_logit", dtype="float32")(logit), **lesions}
    return keras.Model(image, outputs, name="taught"), grids


class _Estimate(keras.callbacks.Callback):
    """Says after the first batches how long all of them will take."""

    def __init__(self, steps: int, images: int) -> None:
        super().__init__()
        self._steps, self._images, self._seen, self._started = steps, images, 0, 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Time the batches after the first two, which compile."""
        self._seen += 1
        if self._seen == _UNTIMED:
            self._started = perf_counter()
        if self._seen == _UNTIMED + _TIMED:
            minutes = (perf_counter() - self._started) / _TIMED * self._steps / 60
            LOG.info(f"all layers on {self._images} images: about {max(1, round(minutes))} minutes here")


class BalancedBatches(keras.utils.PyDataset):
    """Augmented training images, every source and class with the same share.

    An epoch has as many images as there are. What it holds depends only on the seed and on its number. A batch is
    float32 (B, H, W, 3), 0–255, with targets and weights by the names of the outputs.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        size: tuple[int, int],
        batch_size: int,
        policy: Policy,
        grids: dict[str, tuple[int, int]],
        *,
        seed: int,
    ) -> None:
        super().__init__(workers=2)
        self._samples, self._size, self._batch_size = samples, size, batch_size
        self._policy, self._grids, self._seed = policy, grids, seed
        self._decoded: dict[int, tuple[UInt8Image, Mask | None]] = {}
        self._held = 0
        self.start(0)

    def start(self, epoch: int) -> None:
        """Choose the images of an epoch and their order."""
        rng = np.random.default_rng([self._seed, epoch])
        self._epoch = epoch
        self._order = balanced_order(
            [(sample.source, sample.label) for sample in self._samples], self._batch_size, rng
        )

    def __len__(self) -> int:
        return len(self._order) // self._batch_size

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        places = range(index * self._batch_size, (index + 1) * self._batch_size)
        pairs = [self._augmented(self._order[place], place) for place in places]
        labels = np.array([[self._samples[self._order[place]].label] for place in places], np.float32)
        targets, weights = {"logit": labels}, {"logit": np.ones(len(pairs), np.float32)}
        for name, grid in self._grids.items():
            lesions = [lesion_target(mask, grid) for _, mask in pairs]
            targets[name] = np.stack([target for target, _ in lesions])[..., None]
            weights[name] = np.stack([weight for _, weight in lesions])
        return np.stack([image for image, _ in pairs]), targets, weights

    def _augmented(self, row: int, place: int) -> tuple[NDArray[np.float32], Mask | None]:
        sample = self._samples[row]
        # The place, too: in an epoch a rare image comes more than once.
        rng = np.random.default_rng([int(sample.sha256[:15], 16), self._seed, self._epoch, place])
        image, mask = changed(self._policy, *self._read(row), rng)
        return resize(image, self._size).astype(np.float32), mask

    def _read(self, row: int) -> tuple[UInt8Image, Mask | None]:
        if row not in self._decoded:
            sample = self._samples[row]
            image = read_image(sample.path)
            longest = int(_SPARE_PIXELS * max(self._size))
            shrink = min(1.0, longest / max(image.shape[:2]))
            size = (max(1, round(image.shape[0] * shrink)), max(1, round(image.shape[1] * shrink)))
            mask = None if sample.mask_path is None else read_mask(sample.mask_path, image.shape[:2])
            if shrink < 1:
                image = resize(image, size)
                mask = None if mask is None else np.asarray(Image.fromarray(mask).resize(size[::-1])).astype(bool)
            if self._held > _HELD_BYTES:
                return image, mask
            self._held += image.nbytes
            self._decoded[row] = image, mask
        return self._decoded[row]


def balanced_order(
    cells: Sequence[tuple[str, int]], batch_size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of one epoch: as many as there are, rounded up to whole batches, the same share for every cell.

    Args:
        cells: source and label of every row.
        batch_size: at least 1.
        rng: decides the order.

    Returns:
        Rows (M,). Neighbours take turns among the cells, so that every batch is balanced as far as it can be. A
        small cell comes again in another order when all its rows were taken.
    """
    members = {cell: [i for i, other in enumerate(cells) if other == cell] for cell in sorted(set(cells))}
    count = math.ceil(len(cells) / batch_size) * batch_size
    each = math.ceil(count / len(members))
    columns = []
    for rows in members.values():
        rounds = [rng.permutation(rows) for _ in range(math.ceil(each / len(rows)))]
        columns.append(np.concatenate(rounds)[:each])
    turns = np.stack(columns, axis=1)
    for turn in turns:
        rng.shuffle(turn)
    order: NDArray[np.int64] = turns.reshape(-1)[:count].astype(np.int64)
    return order


def lesion_target(mask: Mask | None, grid: tuple[int, int]) -> Lesion:
    """Share of lesion at every position of a grid and the weight of that position; all 0 without a mask."""
    if mask is None:
        return np.zeros(grid, np.float32), np.zeros(grid, np.float32)
    picture = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    share = np.asarray(picture.resize(grid[::-1], Image.Resampling.BOX), np.float32) / 255.0
    return share, np.ones(grid, np.float32)
