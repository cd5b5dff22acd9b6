"""The run folder: what `train` leaves behind and `export` and `benchmarks` read.

model.keras      the full model, image RGB 0–255 -> probability
split.json       data root, relative path, sha256, label, group, subset of every image
run.json         the run card: configuration, versions, data digest, weights, threshold, metrics, history
predictions.csv  logit of every image
curves.png, confusion.png, roc.png
"""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import DataError, ModelError, UsageError, few
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.data.sources import Places, named_folders, scan_sources
from sonoedge.train.data.split import Split, apply_split, read_split
from sonoedge.train.records.run_card import CARD, Metrics, RunCard, read_card

SPLIT = "split.json"
MODEL = "model.keras"
PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class TrainedRun(os.PathLike[str]):
    """A finished run. It can be given wherever the path of a run folder can.

    Attributes:
        path: the run folder.
        card: what its run.json says: settings, metrics, versions, ….
        split: which image is in which subset.
    """

    path: Path
    card: RunCard
    split: Split

    def __fspath__(self) -> str:
        """Path of the run folder."""
        return str(self.path)

    @property
    def model_path(self) -> Path:
        """Path of ``model.keras``."""
        return self.path / MODEL

    @property
    def threshold(self) -> float:
        """The probability from which on an image is called positive, chosen on validation."""
        return self.card.threshold

    @property
    def metrics(self) -> dict[str, Metrics]:
        """By subset and name, value and 95 % interval: ``run.metrics["test"]["auc"]``."""
        return self.card.metrics


Run = TrainedRun
"""The short name, for our own packages."""


def open_run(path: str | os.PathLike[str]) -> TrainedRun:
    """Read a run folder.

    Raises:
        DataError: run.json is of an earlier or later version of SonoEdge.
        ModelError: a file is missing or unreadable.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ModelError(f"No such run folder: {folder}")
    for name in (CARD, SPLIT, MODEL):
        if not (folder / name).is_file():
            raise ModelError(f"{folder} is not a run folder: it holds no {name}.")
    card = read_card(folder / CARD)
    try:
        return TrainedRun(folder, card, read_split(folder / SPLIT))
    except DataError as error:
        raise ModelError(f"{folder / SPLIT}: {error}") from error


def load_subsets(run: Run, root: Places | None = None, *, progress: bool = False) -> dict[str, Dataset]:
    """The run's images by subset, each checked against its digest.

    The groups are those of the run; none are formed here. Images that the run left out, such as unreadable ones,
    are left out again.

    Args:
        run: a finished one.
        root: folder of the images; by default the folder from which the run read them. For a run on several
            sources: their folders, or one folder that holds them by the names of the sources.
        progress: show a bar on stderr.

    Raises:
        DataError: the folder is not there, or images of the split are missing, changed or labelled differently.
    """
    folders = folders_of(run.split, root)
    if missing := [str(folder) for folder in folders.values() if not folder.is_dir()]:
        raise DataError(
            f"The run's images were in {few(missing)}, which is not there. Say where they are with --data."
        )
    dataset = scan_sources(folders, classes=run.split.labels, skip_unreadable=True, progress=progress)
    return apply_split(dataset, run.split)


def folders_of(split: Split, root: Places | None = None) -> dict[str, Path]:
    """Folders of a split's images by the name of the source; a single folder has an empty name.

    Args:
        split: of a run.
        root: see `load_subsets`.

    Raises:
        UsageError: ``root`` holds other sources than the split.
    """
    usual = named_folders(split.data_root)
    if not root:
        return usual
    given = named_folders(root)
    if set(given) == {""} != set(usual):
        given = {name: given[""] / name for name in usual}
    if set(given) != set(usual):
        raise UsageError(
            f"The run's images are of {', '.join(usual) or 'one folder'}. Received: {', '.join(given)}."
        )
    return given


def validation_logits(run: Run) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and logits (N,) of the validation images, as the training run wrote them.

    Raises:
        ModelError: predictions.csv is missing or unreadable.
    """
    path = run.path / PREDICTIONS
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["subset"] == "val"]
        y = [run.split.labels.index(row["label"]) for row in rows]
        return np.array(y, np.int64), np.array([float(row["logit"]) for row in rows])
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def newest_run(root: Path = Path("runs")) -> Path:
    """The run folder under ``root`` that was finished last.

    Raises:
        UsageError: there is none.
    """
    runs = [card.parent for card in root.glob(f"*/{CARD}")]
    if not runs:
        raise UsageError(
            f"No finished run under {root}/. Train one first (sonoedge train), or name it with --model."
        )
    return max(runs, key=lambda run: (run / CARD).stat().st_mtime)


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of the packages that are installed, for a run card or bundle."""
    found = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
