"""Folders of labelled images: classes, groups of copies, and every reason to refuse a folder."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import DataError, ImageError, few
from sonoedge.edge_runtime.imaging.image import decode_image
from sonoedge.edge_runtime.types import Float32Array
from sonoedge.train.data.grouping import (
    groups_from_pairs,
    is_augmented_name,
    near_duplicate_pairs,
    pairs_with_equal,
    source_key,
    thumbnail,
)
from sonoedge.train.data.layouts import (
    SUBSET_FOLDERS,
    Row,
    choose_labels,
    find_files,
    labelled_rows,
    mask_of,
    read_csv,
    require_all_classes,
    safe_relative,
)

__all__ = ["Dataset", "Sample", "Scan", "family_keys", "group_scan", "load_dataset", "scan_folder"]


@dataclass(frozen=True)
class Sample:
    """One readable image.

    Attributes:
        path: the file.
        relative_path: POSIX path below the root.
        label: index into `Dataset.labels`.
        group: name of its group of copies or views; all of a group must stay on one side of a split.
        sha256: digest of the file, hex.
        mask_path: the lesion mask; None if there is none.
        source: the hospital or data set that it comes from; empty if there is only one.
    """

    path: Path
    relative_path: str
    label: int
    group: str
    sha256: str
    mask_path: Path | None
    source: str = ""


@dataclass(frozen=True)
class Dataset:
    """Labelled images, sorted by relative path.

    ``roots`` holds the folder of the images. If there are several, it holds each by the name of its source, with
    which all relative paths in it begin (`train.data.sources`). ``labels[-1]`` is the positive class. ``notes`` are
    lines to print: they say what was merged or left out, and why.
    """

    roots: Mapping[str, Path]
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Names of the folders."""
        return " + ".join(root.name for root in self.roots.values())

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, sorted; one empty name if there is only one."""
        return tuple(sorted({sample.source for sample in self.samples}))

    @property
    def y(self) -> NDArray[np.int64]:
        """Label indices, int64 (N,)."""
        return np.array([sample.label for sample in self.samples], dtype=np.int64)

    @property
    def groups(self) -> list[str]:
        """Group of every sample."""
        return [sample.group for sample in self.samples]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the contents and labels, whatever the files are called."""
        lines = sorted(f"{sample.sha256} {self.labels[sample.label]}\n" for sample in self.samples)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.samples)

    def select(self, indices: Iterable[int] | NDArray[np.int64]) -> Dataset:
        """The samples at the given indices, in that order, without the notes."""
        return replace(self, samples=tuple(self.samples[int(i)] for i in indices), notes=())


@dataclass(frozen=True)
class Scan:
    """Everything read from a folder, before groups are formed and conflicts dropped.

    ``given_groups[i]`` holds the CSV's group column, or None. ``patients`` says that these groups are of images.csv
    and may be patients; those that an audit found are of copies. ``flagged[i]`` holds the CSV's conflict column.
    Thumbnails are float32 (N, 32, 32). `Sample.group` is still empty.
    """

    dataset: Dataset
    given_groups: tuple[str | None, ...]
    flagged: tuple[bool, ...]
    thumbnails: Float32Array
    patients: bool = True


def load_dataset(
    root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    group_by: Literal["auto", "none"] = "auto",
    groups: str | Path | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> Dataset:
    """Read a folder of labelled images, group the copies and drop groups with conflicting labels.

    A group of images.csv, such as a patient, may have more than one label, unless the CSV marks it as conflicting.

    Args:
        root: folder in one of the layouts of `train.data.layouts`.
        classes: class names, the positive one last. Default: benign, malignant if both exist, else all.
        group_by: "auto" groups by the CSV's group column, or else copies by file name and near-duplicates; "none"
            only keeps identical files together.
        groups: CSV with the columns image and group, such as the groups.csv of ``sonoedge audit``; it replaces the
            folder's own groups.
        skip_unreadable: leave damaged images out with a note instead of refusing the folder.
        progress: show a bar on stderr.

    Raises:
        DataError: the folder, its CSV, its classes or its images cannot be used, or ``groups`` lists other images.
    """
    scan = scan_folder(root, classes=classes, skip_unreadable=skip_unreadable, progress=progress)
    if groups is not None:
        scan = replace(scan, given_groups=_groups_of(scan.dataset, Path(groups)), patients=False)
    return group_scan(scan, group_by)


def group_scan(scan: Scan, group_by: Literal["auto", "none"] = "auto") -> Dataset:
    """The second half of `load_dataset`: form the groups, drop those with conflicting labels.

    Raises:
        DataError: a class has no usable image left.
    """
    found, samples = scan.dataset, scan.dataset.samples
    names: list[str | None] = [None] * len(samples)
    pairs = pairs_with_equal([sample.sha256 for sample in samples])
    copies = groups_from_pairs(len(samples), pairs)
    by_patient = group_by == "auto" and any(scan.given_groups)
    if by_patient:
        names = list(scan.given_groups)
        pairs += pairs_with_equal(names)
    elif group_by == "auto":
        pairs += pairs_with_equal(family_keys(found)) + near_duplicate_pairs(scan.thumbnails)
    firsts = groups_from_pairs(len(samples), pairs)
    # A patient may have a benign and a malignant lesion; two labels of one view contradict each other.
    contradicting = copies if by_patient and scan.patients else firsts
    bad = {firsts[i] for i, flag in enumerate(scan.flagged) if flag}
    labels_of: dict[int, set[int]] = {}
    for part, sample in zip(contradicting, samples, strict=True):
        labels_of.setdefault(part, set()).add(sample.label)
    bad |= {firsts[part] for part, labels in labels_of.items() if len(labels) > 1}
    kept = tuple(
        replace(sample, group=names[first] or samples[first].relative_path)
        for first, sample in zip(firsts, samples, strict=True)
        if first not in bad
    )
    notes = found.notes
    if bad:
        notes += (f"{len(samples) - len(kept)} images in {len(bad)} groups with conflicting labels left out",)
    if mixed := len({(sample.group, sample.label) for sample in kept}) - len({sample.group for sample in kept}):
        notes += (f"{mixed} groups of images.csv hold more than one class: each stays on one side of a split",)
    require_all_classes(found.labels, {found.labels[sample.label] for sample in kept}, "usable image")
    return replace(found, samples=kept, notes=notes)


def _groups_of(dataset: Dataset, path: Path) -> tuple[str, ...]:
    """The group of every image, from a groups file that must list exactly the images of this folder."""
    table = {safe_relative(line["image"]): line["group"].strip() for line in read_csv(path, ("image", "group"))}
    (root,) = dataset.roots.values()
    missing = [sample.relative_path for sample in dataset.samples if sample.relative_path not in table]
    extra = [image for image in table if not (root / image).is_file()]
    if missing or extra:
        raise DataError(
            f"The groups of {path} do not match {root}: {len(missing)} images are not listed, "
            f"{len(extra)} listed images are not there, for example {few(missing or extra, 3)}"
        )
    return tuple(table[sample.relative_path] for sample in dataset.samples)


def family_keys(dataset: Dataset) -> list[str | None]:
    """Folder and source name of every sample; all None if no file name ends in an augmentation word.

    Samples with the same key are copies of one source image.
    """
    paths = [PurePosixPath(sample.relative_path) for sample in dataset.samples]
    if not any(is_augmented_name(path.name) for path in paths):
        return [None] * len(paths)
    keys: list[str | None] = []
    for path in paths:
        folders = [part.casefold() for part in path.parts[:-1]]
        # A copy of a training image may lie under val/: the subset folder is no part of the key.
        keys.append("/".join([*folders[bool(folders and folders[0] in SUBSET_FOLDERS) :], source_key(path.name)]))
    return keys


def scan_folder(
    root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> Scan:
    """Find, label, decode and hash all images of a folder; arguments and errors are those of `load_dataset`."""
    root = Path(root)
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"The data folder {problem}. Received: {root}")
    images, masks = find_files(root)
    rows, class_names, notes = labelled_rows(root, images)
    labels = choose_labels(root, class_names, classes)
    index_of = {label.casefold(): index for index, label in enumerate(labels)}
    chosen = [row for row in rows if row.label.casefold() in index_of]
    chosen.sort(key=lambda row: row.relative_path)
    left_out = Counter(row.label for row in rows if row.label.casefold() not in index_of)
    notes += [f"{count} images of class {label} left out" for label, count in sorted(left_out.items())]
    require_all_classes(labels, {labels[index_of[row.label.casefold()]] for row in chosen}, "image")

    samples, thumbnails, kept_rows, unreadable = [], [], [], []
    for row, result in zip(chosen, _read_all(root, chosen, progress), strict=True):
        if isinstance(result, ImageError):
            unreadable.append(str(result))
            continue
        label = index_of[row.label.casefold()]
        mask = mask_of(row.relative_path, labels[label], masks)
        path = root / row.relative_path
        mask_path = root / mask if mask else None
        samples.append(Sample(path, row.relative_path, label, "", result[0], mask_path, row.source))
        thumbnails.append(result[1])
        kept_rows.append(row)
    if unreadable and not skip_unreadable:
        raise DataError(
            f"{len(unreadable)} of {len(chosen)} images cannot be read: {few(unreadable)} "
            "Repair them, or leave them out with --skip-unreadable."
        )
    if unreadable:
        notes.append(f"{len(unreadable)} unreadable images left out: {few(unreadable)}")
    require_all_classes(labels, {labels[sample.label] for sample in samples}, "readable image")
    return Scan(
        dataset=Dataset({"": root}, labels, tuple(samples), tuple(notes)),
        given_groups=tuple(row.group for row in kept_rows),
        flagged=tuple(row.flagged for row in kept_rows),
        thumbnails=np.stack(thumbnails),
    )


def _read_all(root: Path, rows: list[Row], progress: bool) -> Iterator[tuple[str, Float32Array] | ImageError]:
    def read(row: Row) -> tuple[str, Float32Array] | ImageError:
        path = root / row.relative_path
        try:
            data = path.read_bytes()
            return hashlib.sha256(data).hexdigest(), thumbnail(decode_image(data, name=row.relative_path))
        except OSError as error:
            return ImageError(f"{row.relative_path}: {error.strerror or error}.")
        except ImageError as error:
            return error

    with ThreadPoolExecutor(max_workers=2) as pool:
        results: Iterable[tuple[str, Float32Array] | ImageError] = pool.map(read, rows)
        if progress:
            from tqdm import tqdm

            # None: no bar if stderr is a file or a pipe.
            results = tqdm(results, total=len(rows), desc="reading images", unit="img", disable=None)
        yield from results
