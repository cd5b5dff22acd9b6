"""The images that an out-of-domain gate is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.evaluation.run_folder import Run
from sonoedge.train.records.run_card import TrainedCard

MINIMUM = 8
"""Training images that a gate needs at least."""
COPIES = 2
"""Augmented copies of each training image, at most: `train` makes as many by default, so its cache has them."""


@dataclass(frozen=True)
class GateImages:
    """The images that a gate is fitted to.

    Attributes:
        train: give the statistics.
        val: give the limits.
        test: only measure; may be empty.
        copies: augmented copies of each training image.
        source: origin of the images in words.
    """

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...] = ()
    copies: int = COPIES
    source: str = "training split"


def images_of_run(data: dict[str, Dataset], copies: int) -> GateImages:
    """The images of a run.

    Args:
        data: images by subset.
        copies: augmented copies of each training image.

    Raises:
        DataError: fewer than 8 training images, or no validation images.
    """
    train, val, test = (data[subset].samples for subset in ("train", "val", "test"))
    _require(len(train), len(val))
    return GateImages(train=train, val=val, test=test, copies=copies)


def copies_of(run: Run) -> int:
    """Augmented copies of each training image whose features are in the cache: at most `COPIES`."""
    # Tuned backbones and students have seen the copies, but their features are not cached.
    kept = isinstance(run.card, TrainedCard) and not run.card.settings.fine_tune
    return min(run.card.settings.augment, COPIES) if kept else 0


def images_of_folder(paths: Sequence[Path], digests: Sequence[str]) -> GateImages:
    """The calibration images of a model without a run: every third one gives the limits, the others the statistics.

    Args:
        paths: image files.
        digests: SHA-256 of the files, in the same order.

    Raises:
        DataError: fewer than 8 images.
    """
    _require(len(paths), len(paths))
    samples = [
        Sample(path, path.name, 0, digest, digest, None) for path, digest in zip(paths, digests, strict=True)
    ]
    val = samples[2::3]
    return GateImages(tuple(s for s in samples if s not in val), tuple(val), source="calibration images")


def _require(train: int, val: int) -> None:
    if train < MINIMUM or not val:
        raise DataError(
            f"The out-of-domain gate needs at least {MINIMUM} training images and one validation image. "
            f"Received: {train} and {val}. Leave it out with --no-gate."
        )
