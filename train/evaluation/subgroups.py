"""Metrics by subgroup: by scanner or BI-RADS from the data's CSV, and by lesion size from the masks."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.data.layouts import row_path
from sonoedge.train.evaluation.metrics import classification_metrics
from sonoedge.train.evaluation.results import interval_list
from sonoedge.train.markdown import markdown_table
from sonoedge.train.records.run_card import Subgroup

USUAL_COLUMNS = ("device", "scanner", "birads")
"""Columns by which a run reports its test images, if the CSV has them."""
SHOWN = ("accuracy", "auc", "sensitivity", "specificity", "brier")
"""Metrics of a subgroup."""

_SIZES = (
    (0.0, 0.05, "lesion below 5 % of the image"),
    (0.05, 0.15, "lesion 5–15 %"),
    (0.15, 1.01, "lesion above 15 %"),
)


def subgroups(
    dataset: Dataset, logits: NDArray[np.float64], threshold: float, columns: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Number of images, of malignant ones, and metrics ``[value, low, high]`` by subgroup.

    Args:
        dataset: N images.
        logits: (N,).
        threshold: probability.
        columns: of the folder's CSV; by default those of `USUAL_COLUMNS` that it has.

    Raises:
        UsageError: the folder has no CSV, or its CSV lacks a column that was asked for.
    """
    members = {**by_source(dataset), **by_column(dataset, columns), **by_size(dataset)}
    return {
        name: {
            "images": len(rows),
            "malignant": int(dataset.y[rows].sum()),
            "metrics": shown_metrics(dataset, logits, threshold, rows),
        }
        for name, rows in members.items()
    }


def shown_metrics(
    dataset: Dataset, logits: NDArray[np.float64], threshold: float, rows: Sequence[int]
) -> dict[str, list[float]]:
    """The metrics of `SHOWN` on some rows, each ``[value, low, high]`` of a 95 % interval by group."""
    index = np.array(rows)
    groups = [dataset.groups[i] for i in rows]
    found = classification_metrics(dataset.y[index], logits[index], threshold=threshold, groups=groups)
    return {name: interval_list(found[name]) for name in SHOWN}


def by_column(dataset: Dataset, columns: Sequence[str] | None) -> dict[str, list[int]]:
    """Rows by column and value, such as ``device GE``.

    Args:
        dataset: the images.
        columns: of the folder's CSV; None takes those of `USUAL_COLUMNS` that it has.

    Raises:
        UsageError: the folder has no CSV, or its CSV lacks a column that was asked for.
    """
    index = {sample.relative_path: i for i, sample in enumerate(dataset.samples)}
    members: dict[str, list[int]] = {}
    for source, root in dataset.roots.items():
        for name, image, value in _cells_of(root, columns):
            if (row := index.get(f"{source}/{image}" if source else image)) is not None:
                members.setdefault(f"{name} {value}", []).append(row)
    return {name: sorted(rows) for name, rows in sorted(members.items())}


def by_source(dataset: Dataset) -> dict[str, list[int]]:
    """Rows by source, such as ``source busi``; an empty dictionary if there is only one."""
    sources = dataset.sources
    return {
        f"source {source}": [i for i, sample in enumerate(dataset.samples) if sample.source == source]
        for source in (sources if len(sources) > 1 else ())
    }


def _cells_of(root: Path, columns: Sequence[str] | None) -> list[tuple[str, str, str]]:
    """Column, image and value of every cell that is asked for in a folder's CSV."""
    path = next((p for p in (root / "images.csv", root / "bus_data.csv") if p.is_file()), None)
    if path is None:
        if columns:
            raise UsageError(f"--by needs an images.csv. Received: {root}")
        return []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        fields = reader.fieldnames or []
        if columns is None:
            columns = [name for name in USUAL_COLUMNS if name in fields]
        if missing := [name for name in columns if name not in fields]:
            raise UsageError(f"{path} has no column {', '.join(missing)}. It has: {', '.join(fields)}")
        return [(name, row_path(row), row[name].strip()) for row in reader for name in columns]


def by_size(dataset: Dataset) -> dict[str, list[int]]:
    """Rows by the mask's share of the image, without empty masks; an empty dictionary if an image has no mask."""
    shares = []
    for sample in dataset.samples:
        if sample.mask_path is None:
            return {}
        with Image.open(sample.mask_path) as picture:
            shares.append(float((np.asarray(picture.convert("L")) > 127).mean()))
    named = {name: [i for i, s in enumerate(shares) if low < s <= high] for low, high, name in _SIZES}
    return {name: rows for name, rows in named.items() if rows}


def subgroup_table(found: Mapping[str, Subgroup]) -> str:
    """A run card's subgroups as a table in Markdown; empty without subgroups."""
    rows = []
    for name, part in found.items():
        cells = [cell(part.metrics[metric]) for metric in ("auc", "sensitivity", "specificity")]
        rows.append([name, f"{part.images} ({part.malignant})", *cells])
    head = ["subgroup", "images (malignant)", "AUC", "sensitivity", "specificity"]
    return markdown_table(head, rows) if rows else ""


def cell(values: Sequence[float | None]) -> str:
    """``0.948 [0.856, 0.988]``, or ``n/a`` if the metric is not defined, such as an AUC of one class."""
    value, low, high = values
    undefined = value is None or low is None or high is None or np.isnan(value)
    return "n/a" if undefined else f"{value:.3f} [{low:.3f}, {high:.3f}]"
