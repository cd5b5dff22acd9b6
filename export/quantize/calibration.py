"""Quantization calibration: which images show the quantizer the range of every activation.

Training images only: ranges taken from validation or test images would leak them into the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.files import sha256_bytes, sha256_file
from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.edge_runtime.model.classifier import preprocess_file
from sonoedge.export.quantize.calibration_audit import HeldOut, ImageAudit, audit_images
from sonoedge.train.data.dataset import Dataset

"""Calibration images, if nothing else is asked for."""
MAX_SAMPLES = 5000
"""Calibration images at most."""


@dataclass(frozen=True)
class CalibrationSet:
    """The representative images.

    Attributes:
        paths: image files.
        source: their origin in words, for the bundle's provenance.
        digests: SHA-256 of every file, in the same order.
        audit: what was found about them.
    """

    paths: tuple[Path, ...]
    source: str
    digests: tuple[str, ...]
    audit: ImageAudit

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted digests of the files."""
        return sha256_bytes("\n".join(sorted(self.digests)).encode())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Lines to print; each gives a number."""
        return self.audit.warnings

    def provenance(self, seed: int) -> dict[str, Any]:
        """Facts for the bundle: plain JSON types, no paths; ``seed`` is that of the draw."""
        return {
            "images": len(self.paths),
            "source": self.source,
            "digest": self.digest,
            "seed": seed,
            "audit": self.audit.to_json(),
            "warnings": list(self.warnings),
        }

    def inputs(self, size: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
        """Model inputs one by one, float32 (1, height, width, 3), 0–255.

        Args:
            size: (height, width) in pixels.
        """
        for path in self.paths:
            yield preprocess_file(path, size)


def calibration_from_run(
    data: dict[str, Dataset], *, count: int, seed: int, progress: bool = False
) -> CalibrationSet:
    """Images of the run's training split, class-balanced, drawn with a seed.

    Args:
        data: images by subset, from `train.evaluation.run_folder.load_subsets`.
        count: images at most, 1 to `MAX_SAMPLES`.
        seed: of the draw.
        progress: show a bar.

    Raises:
        DataError: a training image is also a validation or test image.
        UsageError: ``count`` is out of range.
    """
    train = data["train"]
    chosen = train.select(_draw(train, _checked(count), seed))
    paths = tuple(sample.path for sample in chosen.samples)
    digests = tuple(sample.sha256 for sample in chosen.samples)
    classes = {label: int((chosen.y == i).sum()) for i, label in enumerate(train.labels)}
    audit = audit_images(paths, digests, classes, _held_out(data), progress=progress)
    return CalibrationSet(paths, "training split", digests, audit)


def calibration_from_folder(
    folder: Path,
    data: dict[str, Dataset] | None,
    labels: tuple[str, ...],
    *,
    count: int,
    seed: int,
    progress: bool = False,
) -> CalibrationSet:
    """Images of the user's own folder, with or without class folders.

    Args:
        folder: searched to any depth.
        data: images of the run by subset, to look for leaks; None for a bare model.
        labels: class names; an image belongs to a class if a folder above it has the name of the class.
        count: images at most, 1 to `MAX_SAMPLES`.
        seed: of the draw.
        progress: show a bar.

    Raises:
        DataError: no images, or some that are validation or test images of the run.
        ImageError: an image cannot be decoded.
        UsageError: ``count`` is out of range.
    """
    if not folder.is_dir():
        raise DataError(f"No such calibration folder: {folder}")
    found = find_images(folder)
    if not found:
        raise DataError(f"No images in the calibration folder {folder}.")
    order = np.random.default_rng(seed).permutation(len(found))[: _checked(count)]
    paths = tuple(found[i] for i in sorted(order))
    digests = tuple(sha256_file(path) for path in paths)
    classes = _classes(folder, paths, labels)
    audit = audit_images(paths, digests, classes, _held_out(data) if data else None, progress=progress)
    return CalibrationSet(paths, "own folder", digests, audit)


def _draw(dataset: Dataset, count: int, seed: int) -> NDArray[np.int64]:
    """Sorted indices of ``count`` images, drawn in turn from each class until it has no more."""
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


def _held_out(data: dict[str, Dataset]) -> HeldOut:
    samples = [sample for subset in ("val", "test") for sample in data[subset].samples]
    return HeldOut(tuple(s.path for s in samples), tuple(s.sha256 for s in samples))


def _classes(folder: Path, paths: tuple[Path, ...], labels: tuple[str, ...]) -> dict[str, int]:
    """Images by class; empty if no folder has the name of a class."""
    counts = dict.fromkeys(labels, 0)
    for path in paths:
        above = [folder.resolve().name, *path.relative_to(folder).parts[:-1]]
        for label in labels:
            counts[label] += label in above
    return counts if any(counts.values()) else {}
