"""Simulated breast-ultrasound images with masks, so that every command can be tried without a download.

`train.simulation.bmode` holds the physics. The two classes overlap on purpose. These images show that the software
works; they say nothing about patients.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.train.folders import atomic_directory
from sonoedge.train.simulation.bmode import Label, draw_case, render

LABELS: tuple[Label, Label] = ("benign", "malignant")
MAX_VIEWS = 26
_MANIFEST = "phantoms.json"
_GENERATOR = {"generator": "sonoedge phantoms", "version": 1}


def phantom(rng: np.random.Generator, label: Label) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw a case and render one view of it.

    Returns:
        B-mode image uint8 (height, width), 0–255, and the lesion mask bool (height, width); 240–360 rows,
        300–420 columns, skin on top.
    """
    return render(draw_case(rng, label), rng)


def generate_phantoms(
    out: Path, *, cases_per_class: int = 60, views_per_case: int = 2, seed: int = 0, progress: bool = False
) -> Path:
    """Write a data folder: ``benign/``, ``malignant/``, ``masks/<class>/``, ``images.csv`` and ``phantoms.json``.

    The same settings give the same bytes. ``images.csv`` has the columns image (path inside the folder), label
    and case; the views of a case share its lesion and must stay in one subset. A folder of identical settings is
    reused; the folder appears only when it is complete.

    Args:
        out: folder to create.
        cases_per_class: at least 1; a larger number keeps the cases of a smaller one.
        views_per_case: 1–26.
        seed: at least 0.
        progress: show a bar if stderr is a terminal.

    Returns:
        ``out``.

    Raises:
        UsageError: a number outside its range.
        DataError: ``out`` holds something else.
    """
    if cases_per_class < 1 or not 1 <= views_per_case <= MAX_VIEWS or seed < 0:
        raise UsageError(
            f"Phantoms need at least 1 case, 1 to {MAX_VIEWS} views and a seed of at least 0. "
            f"Received: cases={cases_per_class}, views={views_per_case}, seed={seed}."
        )
    settings: dict[str, Any] = {
        **_GENERATOR,
        "cases_per_class": cases_per_class,
        "views_per_case": views_per_case,
        "seed": seed,
    }
    cases = [(label, number) for number in range(1, cases_per_class + 1) for label in LABELS]
    rows = sorted(
        (f"{label}/{label}_{number:04d}_{chr(97 + view)}.png", label, f"{label}_{number:04d}")
        for label, number in cases
        for view in range(views_per_case)
    )
    if _is_complete(out, settings, [row[0] for row in rows]):
        return out
    from tqdm import tqdm

    with atomic_directory(out, marker=_MANIFEST) as partial:
        for label in LABELS:
            (partial / label).mkdir(parents=True)
            (partial / "masks" / label).mkdir(parents=True)
        for label, number in tqdm(cases, "phantoms", unit="case", disable=None if progress else True):
            # The seed is made of class and number, so that a longer run only adds cases.
            root = np.random.SeedSequence(seed, spawn_key=(LABELS.index(label), number))
            first, *others = root.spawn(1 + views_per_case)
            case = draw_case(np.random.default_rng(first), label)
            for view, child in enumerate(others):
                image, mask = render(case, np.random.default_rng(child))
                name = f"{label}/{label}_{number:04d}_{chr(97 + view)}.png"
                Image.fromarray(image).save(partial / name)
                Image.fromarray(mask.astype(np.uint8) * 255).save(partial / "masks" / name)
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("image", "label", "case"), *rows])
        (partial / "images.csv").write_text(table.getvalue(), encoding="utf-8", newline="\n")
        (partial / _MANIFEST).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8", newline="\n")
    return out


def _is_complete(out: Path, settings: dict[str, Any], images: list[str]) -> bool:
    """Whether ``out`` already is this data set; `DataError` if it is anything else but empty."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    manifest = out / _MANIFEST
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{out} exists and was not written by sonoedge phantoms. Choose another folder.") from None
    if found != settings:
        raise DataError(f"{out} holds phantoms of other settings. Choose another folder. Received: {settings}.")
    missing = [name for name in images if not ((out / name).is_file() and (out / "masks" / name).is_file())]
    if missing or not (out / "images.csv").is_file():
        raise DataError(f"{out} is incomplete ({len(missing)} images missing). Delete it and run again.")
    return True
