"""Selects the images to score: those that the model has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sonoedge.benchmarks.records.runfile import Data, ImageRef
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.data.dataset import Dataset, load_dataset

_DIGITS = 16


@dataclass(frozen=True)
class Selection:
    """The images to score; ``kind`` is ``test`` (of the training data) or ``external``; ``note`` says why."""

    dataset: Dataset
    kind: str
    note: str


def select_images(bundle: Bundle, dataset: Dataset) -> Selection:
    """Keep the images that the model has not seen.

    If the bundle knows some of the images by digest, only its test images are kept. If it knows none, the data are
    external, and all images are kept.

    Raises:
        DataError: the bundle knows some of the images, but none of them is a test image.
    """
    training = bundle.provenance.get("training") or {}
    subset_by_digest = {
        digest: subset for subset, digests in (training.get("subsets") or {}).items() for digest in digests
    }
    digits = len(next(iter(subset_by_digest), ""))
    subsets = [subset_by_digest.get(sample.sha256[:digits]) if digits else None for sample in dataset.samples]
    if not any(subsets):
        return Selection(dataset, "external", "none of these images was used in training: external data")
    chosen = [i for i, subset in enumerate(subsets) if subset == "test"]
    unknown = sum(subset is None for subset in subsets)
    if not chosen:
        raise DataError("The model was trained or tuned on these images, and none of them is a test image.")
    note = f"test split of the training data; {len(dataset) - len(chosen) - unknown} training and validation images"
    note += f" and {unknown} unknown ones left out" if unknown else " left out"
    return Selection(dataset.select(chosen), "test", note)


def load_selection(
    bundle: Bundle, folder: Path, classes: Sequence[str] | None, *, skip_unreadable: bool, limit: int | None
) -> tuple[Data, list[Path]]:
    """The images to score: their description, and their files in the same order.

    Args:
        bundle: knows the training images.
        folder: of the images.
        classes: class folders, the positive one last; None takes the bundle's labels.
        skip_unreadable: leave broken images out.
        limit: at most this many images, spread evenly over the sorted files, so that both classes stay, or None.

    Raises:
        DataError: there is nothing to score, or a class is missing.
    """
    labels = tuple(classes or bundle.labels)
    if len(labels) != 2:
        raise DataError(f"Two classes are scored, the positive one last. Received: {', '.join(labels)}.")
    dataset = load_dataset(folder, classes=labels, skip_unreadable=skip_unreadable)
    selection = select_images(bundle, dataset)
    images, note = selection.dataset, selection.note
    if limit is not None and limit < len(images):
        images = images.select([i * len(images) // limit for i in range(limit)])
        note += f"; {limit} of {len(selection.dataset)} taken"
    counts = [int((images.y == label).sum()) for label in (0, 1)]
    if 0 in counts:
        raise DataError(
            f"Both classes are needed. The images to score are {counts[0]} {labels[0]} and {counts[1]} {labels[1]}."
        )
    numbers = {group: i for i, group in enumerate(dict.fromkeys(images.groups))}
    data = Data(
        name=folder.resolve().name,
        kind=selection.kind,
        note=note,
        notes=tuple(dataset.notes),
        labels=labels,
        digest=images.digest[:_DIGITS],
        images=tuple(ImageRef(s.sha256[:_DIGITS], s.label, numbers[s.group]) for s in images.samples),
    )
    return data, [sample.path for sample in images.samples]
