"""Folders of labelled images: layouts, masks, groups of copies, and every reason to refuse a folder.

Understood layouts (a folder named ``masks``, in any case, is never a class):

    images.csv       image,label[,group|case|patient][,group_has_conflicting_labels] beside the folders
    <class>/…        one folder per class, any depth below it
    {train,val,test}/<class>/…   the published augmented set; merged, since its copies lie on both sides
    bus_data.csv     the original BUS-BRA: ID,Case,Pathology and Images/, Masks/
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError, ImageError
from edge_runtime.image import decode_image, is_image_file
from edge_runtime.types import Float32Array
from train.duplicates import (
    groups_from_pairs,
    is_augmented_name,
    near_duplicate_pairs,
    pairs_with_equal,
    source_key,
    thumbnail,
)

__all__ = [
    "Dataset",
    "Sample",
    "Scan",
    "family_keys",
    "few",
    "group_scan",
    "load_dataset",
    "row_path",
    "safe_relative",
    "scan_folder",
    "source_key",
    "subset_folder",
]

_MASK_NAME = re.compile(r"(.+)_mask(?:_\d+)?", re.IGNORECASE)
_SUBSET_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test"})
_GROUP_COLUMNS = ("group", "case", "patient")


@dataclass(frozen=True)
class Sample:
    """One readable image; ``relative_path`` is POSIX, below the root; ``label`` indexes `Dataset.labels`."""

    path: Path
    relative_path: str
    label: int
    group: str
    sha256: str
    mask_path: Path | None


@dataclass(frozen=True)
class Dataset:
    """Labelled images, sorted by relative path.

    ``labels[-1]`` is the positive class. ``notes`` are lines to print: what was merged or left out, and why.
    """

    root: Path
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    @property
    def y(self) -> NDArray[np.int64]:
        """Label indices, int64 (N,)."""
        return np.array([sample.label for sample in self.samples], dtype=np.int64)

    @property
    def groups(self) -> list[str]:
        """Group of every sample: images of one group must stay on one side of a split."""
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

    ``given_groups[i]`` is the group column or None, ``flagged[i]`` the conflict column; thumbnails are
    float32 (N, 32, 32). `Sample.group` is still empty.
    """

    dataset: Dataset
    given_groups: tuple[str | None, ...]
    flagged: tuple[bool, ...]
    thumbnails: Float32Array


@dataclass(frozen=True)
class _Row:
    relative_path: str
    label: str
    group: str | None = None
    flagged: bool = False


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

    Args:
        root: folder in one of the layouts of this module.
        classes: class names, the positive one last. Default: benign, malignant where both exist, else all.
        group_by: "auto" takes the CSV's group column, else copies by file name and near-duplicates; "none"
            only keeps identical files together.
        groups: CSV with the columns image and group, such as the groups.csv of ``sonoedge audit``, that takes the
            place of the folder's own groups.
        skip_unreadable: leave damaged images out with a note instead of refusing the folder.
        progress: show a bar on stderr.

    Raises:
        DataError: the folder, its CSV, its classes or its images cannot be used, or the groups are of other images.
    """
    scan = scan_folder(root, classes=classes, skip_unreadable=skip_unreadable, progress=progress)
    if groups is not None:
        scan = replace(scan, given_groups=_groups_of(scan.dataset, Path(groups)))
    return group_scan(scan, group_by)


def group_scan(scan: Scan, group_by: Literal["auto", "none"] = "auto") -> Dataset:
    """The second half of `load_dataset`: form the groups, drop those with conflicting labels."""
    found, samples = scan.dataset, scan.dataset.samples
    names: list[str | None] = [None] * len(samples)
    pairs = pairs_with_equal([sample.sha256 for sample in samples])
    if group_by == "auto" and any(scan.given_groups):
        names = list(scan.given_groups)
        pairs += pairs_with_equal(names)
    elif group_by == "auto":
        pairs += pairs_with_equal(family_keys(found)) + near_duplicate_pairs(scan.thumbnails)
    firsts = groups_from_pairs(len(samples), pairs)
    labels_of: dict[int, set[int]] = {}
    for first, sample in zip(firsts, samples, strict=True):
        labels_of.setdefault(first, set()).add(sample.label)
    bad = {first for first, flag in zip(firsts, scan.flagged, strict=True) if flag}
    bad |= {first for first, labels in labels_of.items() if len(labels) > 1}
    kept = tuple(
        replace(sample, group=names[first] or samples[first].relative_path)
        for first, sample in zip(firsts, samples, strict=True)
        if first not in bad
    )
    notes = found.notes
    if bad:
        notes += (f"{len(samples) - len(kept)} images in {len(bad)} groups with conflicting labels left out",)
    _require_all_classes(found.labels, {found.labels[sample.label] for sample in kept}, "usable image")
    return replace(found, samples=kept, notes=notes)


def _groups_of(dataset: Dataset, path: Path) -> tuple[str, ...]:
    """The group of every image from a groups file that must be of this folder."""
    table = {safe_relative(line["image"]): line["group"].strip() for line in _read_csv(path, ("image", "group"))}
    missing = [sample.relative_path for sample in dataset.samples if sample.relative_path not in table]
    extra = [image for image in table if not (dataset.root / image).is_file()]
    if missing or extra:
        raise DataError(
            f"The groups of {path} do not match {dataset.root}: {len(missing)} images are not listed, "
            f"{len(extra)} listed images are not there, for example {few(missing or extra, 3)}"
        )
    return tuple(table[sample.relative_path] for sample in dataset.samples)


def family_keys(dataset: Dataset) -> list[str | None]:
    """Folder and source name of every sample; all None where no file name ends in an augmentation word."""
    paths = [PurePosixPath(sample.relative_path) for sample in dataset.samples]
    if not any(is_augmented_name(path.name) for path in paths):
        return [None] * len(paths)
    keys: list[str | None] = []
    for path in paths:
        folders = [part.casefold() for part in path.parts[:-1]]
        # A copy of a training image may lie under val/: the subset folder is no part of the key.
        keys.append("/".join([*folders[bool(folders and folders[0] in _SUBSET_FOLDERS) :], source_key(path.name)]))
    return keys


def scan_folder(
    root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> Scan:
    """Find, label, decode and hash all images of a folder; arguments and errors as `load_dataset`."""
    root = Path(root)
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"The data folder {problem}. Received: {root}")
    images, masks = _walk(root)
    rows, class_names, notes = _rows(root, images)
    labels = _choose_labels(root, class_names, classes)
    index_of = {label.casefold(): index for index, label in enumerate(labels)}
    chosen = [row for row in rows if row.label.casefold() in index_of]
    chosen.sort(key=lambda row: row.relative_path)
    left_out = Counter(row.label for row in rows if row.label.casefold() not in index_of)
    notes += [f"{count} images of class {label} left out" for label, count in sorted(left_out.items())]
    _require_all_classes(labels, {labels[index_of[row.label.casefold()]] for row in chosen}, "image")

    samples, thumbnails, kept_rows, unreadable = [], [], [], []
    for row, result in zip(chosen, _read_all(root, chosen, progress), strict=True):
        if isinstance(result, ImageError):
            unreadable.append(str(result))
            continue
        label = index_of[row.label.casefold()]
        mask = _mask_of(row.relative_path, labels[label], masks)
        path = root / row.relative_path
        samples.append(Sample(path, row.relative_path, label, "", result[0], root / mask if mask else None))
        thumbnails.append(result[1])
        kept_rows.append(row)
    if unreadable and not skip_unreadable:
        raise DataError(
            f"{len(unreadable)} of {len(chosen)} images cannot be read: {few(unreadable)} "
            "Repair them, or leave them out with --skip-unreadable."
        )
    if unreadable:
        notes.append(f"{len(unreadable)} unreadable images left out: {few(unreadable)}")
    _require_all_classes(labels, {labels[sample.label] for sample in samples}, "readable image")
    return Scan(
        dataset=Dataset(root, labels, tuple(samples), tuple(notes)),
        given_groups=tuple(row.group for row in kept_rows),
        flagged=tuple(row.flagged for row in kept_rows),
        thumbnails=np.stack(thumbnails),
    )


def few(items: Sequence[str], limit: int = 5) -> str:
    """The first items for a message, and how many more there are."""
    more = f", and {len(items) - limit} more." if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def safe_relative(text: str) -> str:
    """A relative POSIX path that stays below its root, normalised ("./a.png" -> "a.png").

    Raises:
        DataError: absolute, empty, with "..", a drive, or back slashes.
    """
    path = PurePosixPath(text)
    windows = PureWindowsPath(text)
    outside = path.is_absolute() or windows.drive or ".." in path.parts
    if not path.parts or outside or "\\" in text or "\0" in text:
        raise DataError(f"Paths must be relative, with forward slashes, and stay in the folder. Received: {text!r}")
    return str(path)


def row_path(line: Mapping[str, str]) -> str:
    """Relative path of the image that a row of images.csv or bus_data.csv is about."""
    return safe_relative(line["image"] if "image" in line else f"Images/{line['ID']}.png")


def subset_folder(relative_path: str) -> str | None:
    """``train``, ``val`` or ``test`` where an image lies in such a folder of the data set itself, else None."""
    folders = relative_path.split("/")[:-1]
    name = folders[0].casefold() if folders else ""
    if name not in _SUBSET_FOLDERS:
        return None
    return "train" if name.startswith("train") else "test" if name == "test" else "val"


def _is_mask_folder(name: str) -> bool:
    return name.casefold() == "masks"


def _walk(root: Path) -> tuple[list[str], dict[str, str]]:
    """Relative paths of all images, sorted, and of the masks by the image path (no suffix) they belong to."""
    images: list[str] = []
    masks: dict[str, str] = {}
    visited: set[Path] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        # Class folders may be links to another disk; a link to a parent folder must not loop.
        if (real := Path(folder).resolve()) in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = PurePosixPath(Path(folder).relative_to(root).as_posix())
        in_masks = any(map(_is_mask_folder, inside.parts))
        for name in sorted(files):
            path = inside / name
            # "._x.png" are the resource forks that macOS writes into archives.
            if name.startswith(".") or not is_image_file(Path(folder, name)):
                continue
            if in_masks:
                key = PurePosixPath(*(part for part in path.parts if not _is_mask_folder(part)))
                masks.setdefault(str(key.with_suffix("")), str(path))
            elif match := _MASK_NAME.fullmatch(path.stem):
                masks.setdefault(str(inside / match[1]), str(path))
            else:
                images.append(str(path))
    return sorted(images), masks


def _mask_of(relative_path: str, label: str, masks: dict[str, str]) -> str | None:
    path = PurePosixPath(relative_path)
    bus_bra = "mask_" + path.stem.removeprefix("bus_")
    keys = (str(path.with_suffix("")), f"{label}/{path.stem}", bus_bra)
    return next((masks[key] for key in keys if key in masks), None)


def _rows(root: Path, images: list[str]) -> tuple[list[_Row], list[str], list[str]]:
    """Labelled images, the names of all classes (empty folders included) and notes, by the layout found."""
    if (root / "images.csv").is_file():
        return _csv_rows(root, images)
    if (root / "bus_data.csv").is_file():
        return _bus_bra_rows(root)
    top = _class_folders(root)
    subsets = [name for name in top if name.casefold() in _SUBSET_FOLDERS]
    notes = []
    if subsets and len(subsets) == len(top):
        notes.append(
            f"the folders {', '.join(subsets)} are merged and split again: "
            "copies of one source image lie on both sides"
        )
        names = [name for subset in subsets for name in _class_folders(root / subset)]
        rows = [_Row(image, image.split("/")[1]) for image in images if image.count("/") >= 2]
    else:
        names = top
        rows = [_Row(image, image.split("/")[0]) for image in images if "/" in image]
    if len(rows) < len(images):
        notes.append(f"{len(images) - len(rows)} images outside the class folders are not used")
    return rows, names, notes


def _class_folders(root: Path) -> list[str]:
    names = (path.name for path in root.iterdir() if path.is_dir())
    return sorted(name for name in names if not name.startswith(".") and not _is_mask_folder(name))


def _csv_rows(root: Path, images: list[str]) -> tuple[list[_Row], list[str], list[str]]:
    table = _read_csv(root / "images.csv", ("image", "label"))
    column = next((name for name in _GROUP_COLUMNS if name in table[0]), None)
    rows = [
        _Row(
            row_path(line),
            line["label"].strip(),
            (line[column].strip() or None) if column else None,
            line.get("group_has_conflicting_labels", "").strip().casefold() in {"true", "1", "yes"},
        )
        for line in table
    ]
    _require_files(root, "images.csv", [row.relative_path for row in rows])
    listed = {row.relative_path for row in rows}
    folders = {path.split("/")[0] for path in listed if "/" in path}
    extra = [image for image in images if image not in listed and image.split("/")[0] in folders]
    notes = [f"{len(extra)} images are not listed in images.csv and not used"] if extra else []
    return rows, [row.label for row in rows], notes


def _bus_bra_rows(root: Path) -> tuple[list[_Row], list[str], list[str]]:
    table = _read_csv(root / "bus_data.csv", ("ID", "Case", "Pathology"))
    rows = [_Row(row_path(line), line["Pathology"].strip(), line["Case"].strip() or None) for line in table]
    _require_files(root, "bus_data.csv", [row.relative_path for row in rows])
    return rows, [row.label for row in rows], []


def _read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            if missing := [name for name in columns if name not in header]:
                received = ", ".join(header) or "an empty file"
                raise DataError(f"{path} lacks the columns: {', '.join(missing)}. Received: {received}")
            table = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Cannot read {path}: {error}") from error
    if not table:
        raise DataError(f"{path} lists no images.")
    for number, line in enumerate(table, start=2):
        # DictReader fills short lines with None and keeps surplus cells under the key None.
        if None in line or None in line.values() or not all(line[name].strip() for name in columns):
            raise DataError(f"{path}, row {number}: every row needs {len(header)} cells, {columns} not empty.")
    return table


def _require_files(root: Path, csv_name: str, paths: list[str]) -> None:
    if in_masks := [path for path in paths if any(map(_is_mask_folder, path.split("/")[:-1]))]:
        raise DataError(f"{csv_name} lists masks as images: {few(in_masks)}")
    if doubled := [path for path, count in Counter(paths).items() if count > 1]:
        raise DataError(f"{csv_name} lists {len(doubled)} images more than once: {few(doubled)}")
    if missing := [path for path in paths if not (root / path).is_file()]:
        raise DataError(f"{len(missing)} images listed in {csv_name} are not in {root}: {few(missing)}")


def _choose_labels(root: Path, found: Iterable[str], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Class names, compared without case, the positive one last."""
    names: dict[str, str] = {}
    for name in sorted(found):
        names.setdefault(name.casefold(), name)
    received = f"Received: {', '.join(names.values()) or 'none'} in {root}"
    if classes is not None:
        wanted = [name.casefold() for name in classes]
        if unknown := [name for name in classes if name.casefold() not in names]:
            raise DataError(f"Unknown class names: {', '.join(unknown)}. {received}")
        if len(set(wanted)) != len(wanted) or "malignant" in wanted[:-1]:
            raise DataError(f"Classes must differ, and malignant must be last. Received: {', '.join(classes)}")
    elif {"benign", "malignant"} <= names.keys():
        return ("benign", "malignant")
    else:
        wanted = sorted(names, key=lambda name: (name == "malignant", name))
    if len(wanted) < 2:
        raise DataError(f"At least two class folders are needed, such as benign/ and malignant/. {received}")
    return tuple(classes) if classes is not None else tuple(names[name] for name in wanted)


def _require_all_classes(labels: Sequence[str], present: set[str], what: str) -> None:
    if empty := [label for label in labels if label not in present]:
        raise DataError(f"Every class needs at least one {what}. Received: no {what} of {', '.join(empty)}")


def _read_all(root: Path, rows: list[_Row], progress: bool) -> Iterator[tuple[str, Float32Array] | ImageError]:
    def read(row: _Row) -> tuple[str, Float32Array] | ImageError:
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

            # None: no bar where stderr is a file or a pipe.
            results = tqdm(results, total=len(rows), desc="reading images", unit="img", disable=None)
        yield from results
