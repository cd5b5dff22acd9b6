"""Images of several sources: data sets, hospitals or scanners that are trained on together.

Two ways to name them: several folders, each in a layout of its own, or one folder whose images.csv has a column
``source``. Within a folder copies are grouped as always. Between sources there must be none: an image in two
of them would be counted twice, and lie on both sides when one source is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from sonoedge.edge_runtime.errors import DataError, UsageError, few
from sonoedge.train.data.dataset import Dataset, Sample, Scan, group_scan, load_dataset, scan_folder
from sonoedge.train.data.grouping import near_duplicate_pairs, pairs_with_equal

Place = str | PathLike[str]
Places = Place | Sequence[Place]


def load_sources(
    folders: Places,
    *,
    classes: Sequence[str] | None = None,
    groups: str | Path | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> Dataset:
    """Read one or more folders of labelled images and group the copies within each.

    Args:
        folders: one folder, or several of different names. With several, every relative path begins with the name
            of its folder, and so does the name of every group.
        classes, groups, skip_unreadable, progress: see `train.data.dataset.load_dataset`.

    Raises:
        DataError: a folder cannot be used, the classes of the folders differ, a source has images of one class
            only, or an image lies in two sources.
        UsageError: two folders have the same name, or ``groups`` is given for several folders.
    """
    named = named_folders(folders)
    if len(named) == 1:
        (folder,) = named.values()
        dataset = load_dataset(
            folder, classes=classes, groups=groups, skip_unreadable=skip_unreadable, progress=progress
        )
        if len(dataset.sources) > 1:
            # Groups are formed over the whole folder: one in two sources has copies in both.
            _refuse_shared(dataset.samples, pairs_with_equal(dataset.groups))
            _require_every_class(dataset)
        return dataset
    if groups is not None:
        raise UsageError("--groups is for one folder. Give each folder an images.csv with a column group instead.")
    scans = {
        name: scan_folder(folder, classes=classes, skip_unreadable=skip_unreadable, progress=progress)
        for name, folder in named.items()
    }
    _refuse_copies(scans)
    dataset = _joined({name: group_scan(scan) for name, scan in scans.items()})
    _require_every_class(dataset)
    return dataset


def scan_sources(
    folders: Places | Mapping[str, Place],
    *,
    classes: Sequence[str] | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> Dataset:
    """Read folders without forming groups, for a split that has its own: `Sample.group` stays empty.

    Args:
        folders: see `named_folders`.
        classes, skip_unreadable, progress: see `train.data.dataset.scan_folder`.

    Raises:
        DataError, UsageError: as for `load_sources`, but copies are not looked for.
    """
    scans = {
        name: scan_folder(folder, classes=classes, skip_unreadable=skip_unreadable, progress=progress).dataset
        for name, folder in named_folders(folders).items()
    }
    return scans[""] if set(scans) == {""} else _joined(scans)


def named_folders(folders: Places | Mapping[str, Place]) -> dict[str, Path]:
    """Folders by the name of the source; a single folder has an empty name.

    Args:
        folders: one, several of different names, or folders that have names already.

    Raises:
        UsageError: no folder, or two of the same name.
    """
    if isinstance(folders, Mapping):
        return {name: Path(folder) for name, folder in folders.items()}
    given = [folders] if isinstance(folders, str | PathLike) else list(folders)
    if not given:
        raise UsageError("Name at least one folder with --data.")
    if len(given) == 1:
        return {"": Path(given[0])}
    names = [Path(folder).absolute().name for folder in given]
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"Folders of several sources must have different names. Received twice: {few(doubled)}")
    return dict(zip(names, map(Path, given), strict=True))


def data_root(dataset: Dataset) -> str | dict[str, str]:
    """Where the images lie, as a split says it: a folder, or folders by the name of their source."""
    roots = {name: root.resolve().as_posix() for name, root in dataset.roots.items()}
    return roots[""] if set(roots) == {""} else roots


def _joined(parts: Mapping[str, Dataset]) -> Dataset:
    labels = {name: part.labels for name, part in parts.items()}
    if len(set(labels.values())) > 1:
        found = "; ".join(f"{name} has {', '.join(classes)}" for name, classes in labels.items())
        raise DataError(f"All sources must have the same classes. Choose them with --classes. Received: {found}")
    samples = [_within(name, sample) for name, part in parts.items() for sample in part.samples]
    return Dataset(
        {name: root for name, part in parts.items() for root in part.roots.values()},
        next(iter(labels.values())),
        tuple(sorted(samples, key=lambda sample: sample.relative_path)),
        tuple(f"{name}: {note}" for name, part in parts.items() for note in part.notes),
    )


def _within(name: str, sample: Sample) -> Sample:
    return replace(
        sample,
        relative_path=f"{name}/{sample.relative_path}",
        group=f"{name}/{sample.group}" if sample.group else "",
        source=f"{name}/{sample.source}" if sample.source else name,
    )


def _refuse_copies(scans: Mapping[str, Scan]) -> None:
    """Refuse images that lie in two folders, as identical files or as near-duplicates."""
    samples = [_within(name, sample) for name, scan in scans.items() for sample in scan.dataset.samples]
    thumbnails = np.concatenate([scan.thumbnails for scan in scans.values()])
    identical = pairs_with_equal([sample.sha256 for sample in samples])
    _refuse_shared(samples, sorted({*identical, *near_duplicate_pairs(thumbnails)}))


def _refuse_shared(samples: Sequence[Sample], pairs: Sequence[tuple[int, int]]) -> None:
    shared = [(samples[a], samples[b]) for a, b in pairs if samples[a].source != samples[b].source]
    if shared:
        names = [f"{a.relative_path} and {b.relative_path}" for a, b in shared]
        raise DataError(
            f"{len(shared)} pairs of images of different sources show the same content: {few(names, 3)}. Remove "
            "one of each pair; sonoedge audit finds them."
        )


def _require_every_class(dataset: Dataset) -> None:
    """Refuse a source of one class: the model would learn to tell the source instead of the class."""
    for source in dataset.sources:
        present = {sample.label for sample in dataset.samples if sample.source == source}
        if missing := [label for index, label in enumerate(dataset.labels) if index not in present]:
            raise DataError(
                "Every source needs images of every class; else the model learns to tell the sources apart. "
                f"Received: {source} without {', '.join(missing)}."
            )
