"""Cross-validation of training choices: the rows of an ablation table, and how much a leaky split flatters them.

Every image is tested once, by a model that has not seen its fold. A part of the training folds is held out to stop
the fit and to set the temperature and the threshold. Each (row, split, fold) is a JSON file under ``<out>/folds``
with a fingerprint of all that decides it, so that the next call goes on after an interruption.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import structs
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.files import sha256_bytes, sha256_file, write_text_atomic
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.evaluation.thresholds import steady_threshold
from sonoedge.train.experiments.rows import ROWS, SCREEN
from sonoedge.train.fitting.steps import build, fit_subsets
from sonoedge.train.models.backbones import parse_backbones, weights_file
from sonoedge.train.models.fusion import FusionModel
from sonoedge.train.records.reader import plain
from sonoedge.train.records.settings import TrainSettings

FoldsBy = Literal["grouped", "paper", "sources"]
"""What stays together: groups; nothing, as in the paper; all of a source."""

_VERSION = 4
_INNER = 7  # one seventh of the training folds stops the fit


@dataclass(frozen=True)
class OutOfFold:
    """The answers of one row under one split, image by image in the order of the data set.

    Attributes:
        row: its name.
        split: what stays together in a fold.
        logits: (N,), temperature applied, so that folds can be pooled.
        stress: logits of one augmented copy of every image, as from another scanner; None if not asked for.
        margins: (N,) logit minus the logit of the fold's threshold: positive is malignant.
        fold: (N,) number of the fold.
    """

    row: str
    split: FoldsBy
    logits: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    margins: NDArray[np.float64]
    fold: NDArray[np.int64]


def cross_validate(
    dataset: Dataset,
    rows: Sequence[str],
    splits: Sequence[FoldsBy],
    settings: TrainSettings,
    out: Path,
    *,
    folds: int = 5,
    stress: bool = True,
    input_size: int | None = None,
    screen: bool = False,
    cache: Path,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> list[OutOfFold]:
    """Run every row, split and fold that is not finished yet.

    Args:
        dataset: N images.
        rows: keys of `ROWS`.
        splits: what stays together in a fold, see `make_folds`.
        settings: of all rows, before the changes of each row.
        out: folder of the results.
        folds: at least 2.
        input_size: pixels; None leaves it to each row.
        screen: rows that train all layers do so at `SCREEN`, a sixth of the work.
        stress: also test on one augmented copy of every image, for which all backbones run once more.
        cache: folder of cached features.
        progress: show bars.
        say: prints a line after each fold.

    Returns:
        One result for each row and split, rows first.

    Raises:
        DataError: a class has too few groups; see `make_folds`.
        MissingExtraError, ModelError: the weights cannot be had.
        UsageError: fewer than 2 folds, or settings that do not fit each other.
    """
    results = []
    for name in rows:
        chosen = structs.replace(settings, **{"protocol": "default", **ROWS[name].settings})
        if screen and chosen.protocol == "end-to-end":
            chosen = structs.replace(chosen, **SCREEN)
        if input_size is not None:
            chosen = structs.replace(chosen, input_size=input_size)
        model: FusionModel | None = None
        for split in splits:
            parts = []
            for number, subsets in enumerate(make_folds(dataset, folds, split, settings.seed)):
                path = out / "folds" / f"{name}.{split}.{number}.json"
                fingerprint = _fingerprint(chosen, subsets, stress)
                part = _read(path, fingerprint)
                if part is None:
                    if model is None:
                        model = build(chosen)
                        start = model.full.get_weights()
                    else:
                        model.full.set_weights(start)
                    for backbone in model.backbones.values():
                        backbone.trainable = False
                    part = _run(model, subsets, chosen, stress, cache, progress)
                    document = {"fingerprint": fingerprint, **part}
                    write_text_atomic(path, json.dumps(document) + "\n")
                parts.append(part)
                say(f"{name:<18}{split:<9}fold {number}: validation AUC {part['val_auc']:.3f}")
            results.append(_joined(dataset, name, split, parts))
    return results


def make_folds(dataset: Dataset, folds: int, split: FoldsBy, seed: int) -> list[dict[str, Dataset]]:
    """Train, val and test of every fold, stratified.

    Args:
        dataset: N images.
        folds: at least 2; for ``sources`` there are as many as sources.
        split: ``grouped`` keeps groups together; ``paper`` does not; ``sources`` tests on all images of one source,
            by a model that has seen the others (leave one source out).
        seed: of the order.

    Raises:
        DataError: a class has fewer groups (or images) than folds, or fewer than 7, or there is only one source.
        UsageError: fewer than 2 folds.
    """
    if folds < 2:
        raise UsageError(f"--folds must be at least 2. Received: {folds}.")
    groups = [sample.relative_path for sample in dataset.samples] if split == "paper" else dataset.groups
    for label, name in enumerate(dataset.labels):
        units = len({g for g, y in zip(groups, dataset.y, strict=True) if y == label})
        if units < max(folds, _INNER):
            raise DataError(
                f"{folds} folds need at least {max(folds, _INNER)} groups of {name}. Received: {units}."
            )
    result = []
    outer = _by_source(dataset) if split == "sources" else _kfold(split, folds, seed, dataset.y, groups)
    for rest, test in outer:
        inner = dataset.select(rest)
        inner_groups = [groups[i] for i in rest]
        candidates = _kfold(split, _INNER, seed, _cells(inner), inner_groups)
        parts = next((p for p in candidates if all(len(set(inner.y[i].tolist())) == 2 for i in p)), None)
        if parts is None:
            raise DataError(f"Too few groups for a validation part with both classes within {folds} folds.")
        train, val = (inner.select(part) for part in parts)
        result.append({"train": train, "val": val, "test": dataset.select(test)})
    return result


def _by_source(dataset: Dataset) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each source, the rows of the others and its own."""
    if len(dataset.sources) < 2:
        raise DataError("To leave one source out there must be at least two: give --data once for each.")
    of = np.array([sample.source for sample in dataset.samples])
    return ((np.flatnonzero(of != name), np.flatnonzero(of == name)) for name in dataset.sources)


def _cells(dataset: Dataset) -> NDArray[np.int64]:
    """A number for every pair of source and class; the class alone if there is one source."""
    sources = dataset.sources
    return np.array([sources.index(s.source) * len(dataset.labels) + s.label for s in dataset.samples], np.int64)


def _kfold(
    split: FoldsBy, folds: int, seed: int, y: NDArray[np.int64], groups: Sequence[str]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each fold, the rows of the other folds and its own."""
    if split == "paper":
        return StratifiedKFold(folds, shuffle=True, random_state=seed).split(groups, y)
    return StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(groups, y, groups)


def _run(
    model: FusionModel,
    subsets: dict[str, Dataset],
    settings: TrainSettings,
    stress: bool,
    cache: Path,
    progress: bool,
) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score

    fitted = fit_subsets(model, subsets, settings, cache=cache, progress=progress, stress=stress)
    threshold = steady_threshold(subsets["val"].y, fitted.logits["val"])
    return {
        "images": [sample.relative_path for sample in subsets["test"].samples],
        "logits": [round(float(x), 6) for x in fitted.logits["test"]],
        "stress": [round(float(x), 6) for x in fitted.logits.get("stress", ())],
        "threshold": threshold,
        "temperature": fitted.temperature,
        "val_auc": float(roc_auc_score(subsets["val"].y, fitted.logits["val"])),
    }


def _joined(dataset: Dataset, name: str, split: FoldsBy, parts: Sequence[Mapping[str, Any]]) -> OutOfFold:
    index = {sample.relative_path: i for i, sample in enumerate(dataset.samples)}
    logits, stress, margins = (np.zeros(len(dataset)) for _ in range(3))
    fold = np.zeros(len(dataset), np.int64)
    for number, part in enumerate(parts):
        rows = [index[image] for image in part["images"]]
        cut = np.log(part["threshold"]) - np.log1p(-part["threshold"])
        logits[rows] = part["logits"]
        if part["stress"]:
            stress[rows] = part["stress"]
        margins[rows] = logits[rows] - cut
        fold[rows] = number
    return OutOfFold(name, split, logits, stress if parts[0]["stress"] else None, margins, fold)


def _fingerprint(settings: TrainSettings, subsets: Mapping[str, Dataset], stress: bool) -> str:
    images = {name: sorted(sample.sha256 for sample in part.samples) for name, part in subsets.items()}
    labels = sorted((sample.sha256, sample.label) for part in subsets.values() for sample in part.samples)
    files = (
        {}
        if settings.weights in {"imagenet", "none"}
        else {
            name: sha256_file(weights_file(settings.weights, name))
            for name in parse_backbones(settings.backbones)
            if weights_file(settings.weights, name).is_file()
        }
    )
    values = {**plain(settings), "data": None, "weights": files or settings.weights}
    return sha256_bytes(json.dumps([_VERSION, values, images, labels, stress], sort_keys=True).encode())


def _read(path: Path, fingerprint: str) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return document if document["fingerprint"] == fingerprint else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
