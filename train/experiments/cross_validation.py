"""Cross-validation of training choices: the rows of an ablation table, and how much a leaky split flatters them.

Every image is tested once, by a model that has not seen its fold. A part of the training folds is held out to stop
the fit and to set the temperature and the threshold. Each (row, split, fold) is a JSON file under ``<out>/folds``
with a fingerprint of all that decides it, so that the next call goes on after an interruption.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import structs
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.files import sha256_bytes, sha256_file, write_text_atomic
from sonoedge.train.config.options import RECIPES
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.evaluation.thresholds import steady_threshold
from sonoedge.train.fitting.heads import LOGISTIC
from sonoedge.train.fitting.steps import build, fit_subsets
from sonoedge.train.models.backbones import parse_backbones, weights_file
from sonoedge.train.models.fusion import FusionModel
from sonoedge.train.records.reader import plain
from sonoedge.train.records.settings import FitSettings, TrainSettings

SCREEN: Mapping[str, Any] = {"input_size": 128, "epochs": 6}
"""Settings for a first look at rows that train all layers: differences count, not the level."""

FoldsBy = Literal["grouped", "paper", "sources"]
"""What stays together: groups; nothing, as in the paper; all of a source."""

_VERSION = 4
_INNER = 7  # one seventh of the training folds stops the fit
_PLAIN = FitSettings(1e-3, 32, epochs=60, patience=10, weight_decay=1e-2)
_STRONG = structs.replace(_PLAIN, weight_decay=1.0)
_LAST_BLOCKS = "efficientnetb0/(block[67]|top).*"


@dataclass(frozen=True)
class Row:
    """One line of the ablation: a name, what it stands for, and the settings that differ from the others'."""

    name: str
    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_STAGES: Mapping[str, Any] = {"fits": (LOGISTIC,), "maps": "stages"}
_COPIES: Mapping[str, Any] = {**_STAGES, "augment": 2}
COMPACT: Mapping[str, Any] = RECIPES["compact"]
_LITE0: Mapping[str, Any] = {**COMPACT, "backbones": "efficientnetlite0", "learning_rate": None}
_TUNED: Mapping[str, Any] = {**_STAGES, "fine_tune": _LAST_BLOCKS, "fine_tune_rate": 1e-4}

ROWS = {
    row.name: row
    for row in (
        Row("plain", "the last maps, Adam at 1e-3, decay 0.01", {"fits": (_PLAIN,)}),
        Row("decay", "… decay 1", {"fits": (_STRONG,)}),
        Row("balanced", "… decay 1, class weights", {"fits": (structs.replace(_STRONG, balanced=True),)}),
        Row("mixup", "… decay 1, mixed features", {"fits": (structs.replace(_STRONG, mixup=True),)}),
        Row("averaged", "… decay 1, mean of the weights", {"fits": (structs.replace(_STRONG, averaged=True),)}),
        Row("logistic", "the last maps, logistic regression", {"fits": (LOGISTIC,)}),
        Row("stages", "B0's earlier stages too, logistic regression", _STAGES),
        Row("copies", "… and 2 augmented copies an image", _COPIES),
        Row("vgg19", "VGG19 alone, 2 copies", {**_COPIES, "backbones": "vgg19"}),
        Row("b0", "EfficientNetB0 alone, 2 copies", {**_COPIES, "backbones": "efficientnetb0"}),
        Row("tuned", "stages, then B0's last two blocks tuned", {**_TUNED, "fine_tune_epochs": 3}),
        Row("tuned-averaged", "… mean of the weights",
            {**_TUNED, "fine_tune_epochs": 3, "average_weights": True}),
        Row("tuned-copies", "… with 2 copies", {**_TUNED, "fine_tune_epochs": 2, "augment": 2}),
        Row("b0-tuned", "EfficientNetB0 alone, tuned, 2 copies",
            {**_TUNED, "fine_tune_epochs": 2, "augment": 2, "backbones": "efficientnetb0"}),
        Row("compact", "all of MobileNetV1 trained, maps weighted by the lesion", COMPACT),
        Row("compact-plain", "… without the lesion", {**COMPACT, "maps": "last"}),
        Row("compact-unmasked", "… weighted maps, no mask shown", {**COMPACT, "lesion_weight": 0.0}),
        Row("compact-lite0", "the same with EfficientNet-Lite0, at 3e-4", _LITE0),
        Row("compact-lite0-plain", "EfficientNet-Lite0 without the lesion", {**_LITE0, "maps": "last"}),
    )
}  # fmt: skip
USUAL_ROWS = tuple(name for name, row in ROWS.items() if "protocol" not in row.settings)
"""Rows that are run if none are named: those on frozen features."""


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


def parse_rows(text: str | None) -> tuple[str, ...]:
    """Names of rows from a comma-separated list; None stands for `USUAL_ROWS`.

    Raises:
        UsageError: an unknown or repeated name, or none.
    """
    if text is None:
        return USUAL_ROWS
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in ROWS]
    if not names or unknown or len(set(names)) != len(names):
        raise UsageError(f"--rows takes different names of {', '.join(ROWS)}. Received: {text!r}.")
    return names


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
