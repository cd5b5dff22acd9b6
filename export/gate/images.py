"""Images that an out-of-domain gate is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.evaluation.run_folder import Run

MINIMUM = 8
"""Images that a gate can be fitted to."""
COPIES = 2
"""Augmented copies of each training image: those that `train` makes by default, so they are in its cache."""


@dataclass(frozen=True)
class GateImages:
    """What a gate is fitted to; ``test`` only measures and may be empty.

    ``copies``: augmented copies of each training image.
    """

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...] = ()
    copies: int = COPIES
    source: str = "training split"


def images_of_run(data: dict[str, Dataset], copies: int) -> GateImages:
    """The images of a run by subset.

    Raises:
        DataError: fewer than 8 training images, or no validation images.
    """
    train, val, test = (data[subset].samples for subset in ("train", "val", "test"))
    _require(len(train), len(val))
    return GateImages(train=train, val=val, test=test, copies=copies)


def copies_of(run: Run) -> int:
    """Augmented copies of each training image, of which the cache holds the features: at most `COPIES`."""
    settings = run.card["settings"]
    # Tuned backbones and students have seen the copies, but nothing has kept their features.
    kept = "fine_tune" in settings and not settings["fine_tune"]
    return min(int(settings["augment"]), COPIES) if kept else 0


def images_of_folder(paths: Sequence[Path], digests: Sequence[str]) -> GateImages:
    """The calibration images of a model without a run: every third one sets the limits, the others the statistics.

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
