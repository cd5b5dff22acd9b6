"""Image files, masks and tables of a data folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, seed: int, mode: str = "L") -> Path:
    """A blurred random texture: different seeds are different views, the same seed the same bytes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((60, 48), Image.Resampling.BICUBIC).convert(mode).save(path)
    return path


def write_mask(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("1", (60, 48)).save(path)
    return path


def write_folders(root: Path, counts: dict[str, int], first_seed: int = 0) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write_image(root / name / f"{name}_{index}.png", first_seed + 100 * number + index)
    return root


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
