"""The layouts of data folders: which files are images and masks, and which label and group each image has.

Understood layouts (a folder named ``masks``, in any case, is never a class):

    images.csv       image,label[,group|case|patient][,source][,group_has_conflicting_labels] beside the folders
    <class>/…        one folder per class, any depth below it
    {train,val,test}/<class>/…   the published augmented set; merged, since its copies lie on both sides
    bus_data.csv     the original BUS-BRA: ID,Case,Pathology and Images/, Masks/
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from sonoedge.edge_runtime.errors import DataError, few
from sonoedge.edge_runtime.imaging.image import is_image_file

_MASK_NAME = re.compile(r"(.+)_mask(?:_\d+)?", re.IGNORECASE)
SUBSET_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test"})
_GROUP_COLUMNS = ("group", "case", "patient")


@dataclass(frozen=True)
class Row:
    """What a CSV row or a folder says of one image; the path is below the root, no source is an empty one."""

    relative_path: str
    label: str
    group: str | None = None
    flagged: bool = False
    source: str = ""


def safe_relative(text: str) -> str:
    """A relative POSIX path that stays below its root, normalised ("./a.png" -> "a.png").

    Raises:
        DataError: the path is absolute or empty, or holds "..", a drive, a back slash or a null character.
    """
    path = PurePosixPath(text)
    windows = PureWindowsPath(text)
    outside = path.is_absolute() or windows.drive or ".." in path.parts
    if not path.parts or outside or "\\" in text or "\0" in text:
        raise DataError(f"Paths must be relative, with forward slashes, and stay in the folder. Received: {text!r}")
    return str(path)


def row_path(line: Mapping[str, str]) -> str:
    """Relative path of the image that a row of images.csv or bus_data.csv is about.

    Raises:
        DataError: see `safe_relative`.
    """
    return safe_relative(line["image"] if "image" in line else f"Images/{line['ID']}.png")


def subset_folder(relative_path: str) -> str | None:
    """``train``, ``val`` or ``test`` if the image lies in such a folder of the data set itself, else None."""
    folders = relative_path.split("/")[:-1]
    name = folders[0].casefold() if folders else ""
    if name not in SUBSET_FOLDERS:
        return None
    return "train" if name.startswith("train") else "test" if name == "test" else "val"


def _is_mask_folder(name: str) -> bool:
    return name.casefold() == "masks"


def find_files(root: Path) -> tuple[list[str], dict[str, str]]:
    """Find all images and masks below a folder; links are followed, hidden files are not.

    Returns:
        Relative paths of the images, sorted; and the relative path of each mask, by the path without suffix of the
        image that it belongs to.
    """
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


def mask_of(relative_path: str, label: str, masks: dict[str, str]) -> str | None:
    """Relative path of an image's mask among those of `find_files`; None if it has none."""
    path = PurePosixPath(relative_path)
    bus_bra = "mask_" + path.stem.removeprefix("bus_")
    keys = (str(path.with_suffix("")), f"{label}/{path.stem}", bus_bra)
    return next((masks[key] for key in keys if key in masks), None)


def labelled_rows(root: Path, images: list[str]) -> tuple[list[Row], list[str], list[str]]:
    """Read the labels of images by the layout that the folder has.

    Args:
        root: the folder.
        images: relative paths, from `find_files`.

    Returns:
        The labelled images, the names of all classes (those of empty folders included), and notes to print.

    Raises:
        DataError: a CSV cannot be used, or lists masks, missing images, or an image twice.
    """
    if (root / "images.csv").is_file():
        return _csv_rows(root, images)
    if (root / "bus_data.csv").is_file():
        return _bus_bra_rows(root)
    top = _class_folders(root)
    subsets = [name for name in top if name.casefold() in SUBSET_FOLDERS]
    notes = []
    if subsets and len(subsets) == len(top):
        notes.append(
            f"the folders {', '.join(subsets)} are merged and split again: "
            "copies of one source image lie on both sides"
        )
        names = [name for subset in subsets for name in _class_folders(root / subset)]
        rows = [Row(image, image.split("/")[1]) for image in images if image.count("/") >= 2]
    else:
        names = top
        rows = [Row(image, image.split("/")[0]) for image in images if "/" in image]
    if len(rows) < len(images):
        notes.append(f"{len(images) - len(rows)} images outside the class folders are not used")
    return rows, names, notes


def _class_folders(root: Path) -> list[str]:
    names = (path.name for path in root.iterdir() if path.is_dir())
    return sorted(name for name in names if not name.startswith(".") and not _is_mask_folder(name))


def _csv_rows(root: Path, images: list[str]) -> tuple[list[Row], list[str], list[str]]:
    table = read_csv(root / "images.csv", ("image", "label"))
    column = next((name for name in _GROUP_COLUMNS if name in table[0]), None)
    rows = [
        Row(
            row_path(line),
            line["label"].strip(),
            (line[column].strip() or None) if column else None,
            line.get("group_has_conflicting_labels", "").strip().casefold() in {"true", "1", "yes"},
            line.get("source", "").strip(),
        )
        for line in table
    ]
    _require_files(root, "images.csv", [row.relative_path for row in rows])
    listed = {row.relative_path for row in rows}
    folders = {path.split("/")[0] for path in listed if "/" in path}
    extra = [image for image in images if image not in listed and image.split("/")[0] in folders]
    notes = [f"{len(extra)} images are not listed in images.csv and not used"] if extra else []
    return rows, [row.label for row in rows], notes


def _bus_bra_rows(root: Path) -> tuple[list[Row], list[str], list[str]]:
    table = read_csv(root / "bus_data.csv", ("ID", "Case", "Pathology"))
    rows = [Row(row_path(line), line["Pathology"].strip(), line["Case"].strip() or None) for line in table]
    _require_files(root, "bus_data.csv", [row.relative_path for row in rows])
    return rows, [row.label for row in rows], []


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file by column name.

    Args:
        path: UTF-8, with a header.
        columns: must be there, and must not be empty in any row.

    Raises:
        DataError: the file cannot be read, lists nothing, or lacks columns or cells.
    """
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


def choose_labels(root: Path, found: Iterable[str], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Class names, compared without case, the positive one last.

    Args:
        root: the folder, for errors.
        found: names of all classes.
        classes: those that are wanted; None: benign and malignant if both are there, else all.

    Raises:
        DataError: an unknown name, one given twice, malignant not last, or fewer than two classes.
    """
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


def require_all_classes(labels: Sequence[str], present: set[str], what: str) -> None:
    """Raise `DataError` if a class has no ``what``."""
    if empty := [label for label in labels if label not in present]:
        raise DataError(f"Every class needs at least one {what}. Received: no {what} of {', '.join(empty)}")
