"""A stand-in for the paper's data set, made in the same way: turned and sharpened copies.

The published set has about 18 files for each of 496 source images, named like
``benign (36)-rotated1-sharpened.png``. Here every source keeps its own file and gets up to 18 in that style.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.imaging.image import read_image, resize
from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.train.folders import atomic_directory

if TYPE_CHECKING:
    from sonoedge.train.data.dataset import Dataset

MANIFEST = "paper_like.json"
MAX_FILES = 18
"""Files of one source."""
MAX_ANGLE = 30.0
"""Degrees. The paper says that its copies are rotated, but not by how much."""


def copy_names(files: int) -> list[str]:
    """Suffixes of the names of one source's files: the empty one first, then copy by copy.

    >>> copy_names(4)
    ['', '-sharpened', '-rotated1', '-rotated1-sharpened']
    """
    turns = ["", *(f"-rotated{number}" for number in range(1, MAX_FILES // 2))]
    return [turn + sharp for turn in turns for sharp in ("", "-sharpened")][:files]


def copy_of(image: UInt8Image, name: str, rng: np.random.Generator) -> UInt8Image:
    """A copy of an image uint8 (H, W, 3), of the same shape: turned, sharpened, or both, as its name says.

    Args:
        image: RGB.
        name: one of `copy_names`.
        rng: draws the angle, 5 to `MAX_ANGLE` degrees either way.
    """
    picture = Image.fromarray(image)
    if "-rotated" in name:
        # At least five degrees: a copy that is hardly turned is no copy.
        angle = rng.uniform(5, MAX_ANGLE) * rng.choice((-1, 1))
        picture = picture.rotate(float(angle), Image.Resampling.BILINEAR)
    if name.endswith("-sharpened"):
        picture = picture.filter(ImageFilter.UnsharpMask(radius=2, percent=150, threshold=0))
    copied: UInt8Image = np.asarray(picture)
    return copied


def write_paper_like(
    dataset: Dataset,
    out: Path,
    *,
    sources: int = 0,
    files: int = MAX_FILES,
    size: int = 224,
    seed: int = 0,
    groups: bool = True,
    progress: bool = False,
) -> int:
    """Write class folders and, unless told otherwise, ``images.csv`` with the group of every file.

    Args:
        dataset: the source images.
        out: folder to create; an existing one is replaced only if it is such a set.
        sources: how many source images, with the classes in their proportions; 0 for all.
        files: files of each source, 1 to `MAX_FILES`.
        size: height and width of the files in pixels; 0 keeps the source's size.
        seed: of the choice of sources, and of the angles.
        groups: False leaves out ``images.csv``, like the published set: nothing says which files belong together.
        progress: show a bar on stderr.

    Returns:
        Number of files.

    Raises:
        DataError: ``sources`` is larger than the data set.
        ImageError: an image cannot be decoded.
        UsageError: ``out`` holds something else.
    """
    chosen = _choose(dataset, sources, seed)
    names = copy_names(files)
    rows: list[tuple[str, str, str]] = []
    with atomic_directory(out, marker=MANIFEST) as folder:
        from tqdm import tqdm

        for label in dataset.labels:
            (folder / label).mkdir()
        for number, index in enumerate(tqdm(chosen, "copies", unit="source", disable=None if progress else True)):
            sample = dataset.samples[index]
            image, label = read_image(sample.path), dataset.labels[sample.label]
            if size:
                image = resize(image, (size, size))
            for name in names:
                # The seed is made of content and name, so that a larger number of files only adds files.
                rng = np.random.default_rng([seed, int(sample.sha256[:15], 16), len(name), *name.encode()])
                path = f"{label}/{label} ({number + 1}){name}.png"
                Image.fromarray(copy_of(image, name, rng)).convert("L").save(folder / path, compress_level=1)
                rows.append((path, label, sample.group))
        if groups:
            table = io.StringIO()
            csv.writer(table, lineterminator="\n").writerows([("image", "label", "group"), *rows])
            (folder / "images.csv").write_text(table.getvalue(), encoding="utf-8", newline="\n")
        facts = {"sources": len(chosen), "files": len(rows), "size": size, "seed": seed, "of": dataset.digest}
        (folder / MANIFEST).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return len(rows)


def _choose(dataset: Dataset, sources: int, seed: int) -> Sequence[int]:
    """Indices, in the order of the folder."""
    if sources > len(dataset):
        raise DataError(f"There are {len(dataset)} source images. Received: --sources {sources}.")
    if not sources:
        return range(len(dataset))
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for label in range(len(dataset.labels)):
        mine = np.flatnonzero(dataset.y == label)
        wanted = max(1, round(sources * len(mine) / len(dataset)))
        chosen += rng.permutation(mine)[:wanted].tolist()
    return sorted(chosen)
