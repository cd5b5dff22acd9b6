"""Quantization calibration: which images show the quantizer the range of every activation.

Training images only: ranges taken from validation or test images would leak them into the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.classifier import preprocess_file
from edge_runtime.errors import DataError, UsageError
from edge_runtime.files import sha256_bytes, sha256_file
from edge_runtime.image import find_images
from train.data import Dataset, load_dataset
from train.run_folder import Run
from train.split import apply_split, subset_of

DEFAULT_NUM_SAMPLES = 300
FEW_SAMPLES = 100
MAX_SAMPLES = 5000


@dataclass(frozen=True)
class CalibrationSet:
    """The representative images.

    Attributes:
        paths: image files.
        source: where they come from, for the bundle's provenance.
        digests: SHA-256 of every file, in the same order.
        warnings: lines to print, each with a number.
    """

    paths: tuple[Path, ...]
    source: str
    digests: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted digests of the files."""
        return sha256_bytes("\n".join(sorted(self.digests)).encode())

    def inputs(self, size: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
        """Model inputs one by one, float32 (1, height, width, 3), 0–255."""
        for path in self.paths:
            yield preprocess_file(path, size)


def calibration_from_run(run: Run, *, data_root: Path | None, count: int, seed: int) -> CalibrationSet:
    """Images of the run's training split, class-balanced, drawn with a seed.

    Raises:
        DataError: the data folder is gone or has changed.
        UsageError: ``count`` is out of range.
    """
    dataset = load_run_data(run, data_root)
    chosen = _draw(dataset["train"], _checked(count), seed)
    paths = tuple(dataset["train"].samples[i].path for i in chosen)
    digests = tuple(dataset["train"].samples[i].sha256 for i in chosen)
    counts = np.bincount(dataset["train"].y[chosen], minlength=len(run.split.labels))
    warnings = _warnings(len(paths), counts, run.split.labels)
    return CalibrationSet(paths, "training split", digests, warnings)


def calibration_from_folder(folder: Path, run: Run | None, *, count: int, seed: int) -> CalibrationSet:
    """Images of the user's own folder, with or without class folders.

    Raises:
        DataError: no images, or some that are validation or test images of the run.
        ImageError: an image cannot be decoded (when it is read).
    """
    if not folder.is_dir():
        raise DataError(f"No such calibration folder: {folder}")
    found = find_images(folder)
    if not found:
        raise DataError(f"No images in the calibration folder {folder}.")
    digests = {path: sha256_file(path) for path in found}
    if run is not None:
        subsets = subset_of(run.split)
        held_out = [path for path, digest in digests.items() if subsets.get(digest) in {"val", "test"}]
        if held_out:
            raise DataError(
                f"{len(held_out)} of {len(found)} calibration images are validation or test images of this run, "
                f"for example {held_out[0]}. Calibrating on them would make every figure about them meaningless."
            )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(found))[: _checked(count)]
    paths = tuple(found[i] for i in sorted(order))
    return CalibrationSet(paths, "own folder", tuple(digests[p] for p in paths), _warnings(len(paths), None, ()))


def load_run_data(run: Run, data_root: Path | None) -> dict[str, Dataset]:
    """The run's images by subset, each checked against its digest."""
    root = data_root or Path(run.split.data_root)
    if not root.is_dir():
        raise DataError(f"The run's images were in {root}, which is not there. Say where they are with --data.")
    dataset = load_dataset(root, classes=run.split.labels, skip_unreadable=True)
    return apply_split(dataset, run.split)


def _draw(dataset: Dataset, count: int, seed: int) -> NDArray[np.int64]:
    """Indices of ``count`` images, as many of each class as there are, in a seeded order."""
    rng = np.random.default_rng(seed)
    queues = [list(rng.permutation(np.flatnonzero(dataset.y == label))) for label in range(len(dataset.labels))]
    chosen: list[int] = []
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(int(queue.pop()))
    return np.array(sorted(chosen))


def _checked(count: int) -> int:
    if not 1 <= count <= MAX_SAMPLES:
        raise UsageError(f"--num-calibration-samples must be from 1 to {MAX_SAMPLES}. Received: {count}.")
    return count


def _warnings(total: int, counts: NDArray[np.int64] | None, labels: tuple[str, ...]) -> tuple[str, ...]:
    warnings = []
    if total < FEW_SAMPLES:
        warnings.append(f"only {total} calibration images; under {FEW_SAMPLES} the ranges are unreliable.")
    if counts is not None and counts.min() == 0:
        missing = ", ".join(label for label, n in zip(labels, counts, strict=True) if n == 0)
        warnings.append(f"no calibration image of class {missing}.")
    return tuple(warnings)
