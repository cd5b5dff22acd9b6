"""The stages of one fit: features, head, chosen blocks or all layers, temperature."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import keras
import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.files import sha256_bytes
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.data.split import SUBSETS
from sonoedge.train.evaluation.results import History
from sonoedge.train.features.augment import VERSION as AUGMENT_VERSION
from sonoedge.train.features.cache import Features, compute_features, extract_features
from sonoedge.train.features.input_wait import InputWait
from sonoedge.train.features.policy import VERSION as POLICY_VERSION
from sonoedge.train.fitting.end_to_end import train_end_to_end
from sonoedge.train.fitting.feature_set import FeatureSet
from sonoedge.train.fitting.fine_tuning import fine_tune, fine_tune_tail
from sonoedge.train.fitting.heads import (
    DEFAULT_GRID,
    FitResult,
    fit_default,
    fit_paper,
    head_logits,
    temperature,
)
from sonoedge.train.models.backbones import map_channels, parse_backbones, weights_digest
from sonoedge.train.models.cut import Tail, cut, unfreeze
from sonoedge.train.models.fusion import FusionModel, HeadSpec, build_model
from sonoedge.train.records.reader import plain
from sonoedge.train.records.settings import END_TO_END, PAPER, FitSettings, TrainSettings

Logits = NDArray[np.float64]
_TAIL_BYTES = 3 << 30
"""If the cached maps are larger than this, they are not held in memory: fine-tuning then reads images."""


def build(settings: TrainSettings) -> FusionModel:
    """Build the model that the settings describe; the seed draws its head.

    Raises:
        UsageError: unknown backbones, or a head that does not fit them.
        MissingExtraError, ModelError: the weights cannot be had.
    """
    keras.utils.set_random_seed(settings.seed)
    return build_model(
        parse_backbones(settings.backbones),
        weights=settings.weights,
        input_size=(settings.input_size, settings.input_size),
        head=HeadSpec(settings.pooling, settings.units, settings.dropout),
        preprocessing=settings.preprocessing,
        maps=settings.maps,
    )


def configure_keras(settings: TrainSettings) -> None:
    """Set precision and distribution for all of this process.

    Raises:
        UsageError: the backend cannot distribute the work.
    """
    keras.config.set_dtype_policy("mixed_float16" if settings.mixed_precision else "float32")
    if settings.data_parallel:
        try:
            keras.distribution.set_distribution(keras.distribution.DataParallel())
        except (ValueError, RuntimeError, AttributeError) as error:
            backend = keras.config.backend()
            raise UsageError(f"--data-parallel does not work with the {backend} backend here: {error}") from error


@dataclass(frozen=True)
class Fitted:
    """The result of a fit; the model itself holds the weights.

    Attributes:
        result: of the head.
        tuned: history of the fine-tuning; None without it.
        temperature: divisor of the logits, folded into the last layer already; 1 under the paper's protocol.
        logits: (N,) by subset, after the temperature; also ``stress`` if asked for.
        seconds: by step: ``features``, ``fit``.
        input_wait: how long the backbones waited for images that were not in the cache.
    """

    result: FitResult
    tuned: History | None
    temperature: float
    logits: dict[str, Logits]
    seconds: dict[str, float]
    input_wait: InputWait


def fit_subsets(
    model: FusionModel,
    subsets: dict[str, Dataset],
    settings: TrainSettings,
    *,
    cache: Path,
    progress: bool,
    stress: bool = False,
) -> Fitted:
    """Fit a model as the settings say: head, then chosen blocks, then the temperature (default protocol only).

    Args:
        model: from `build`; trained in place.
        subsets: images by the names of `train.data.split.SUBSETS`.
        settings: of the run.
        cache: folder of cached features.
        progress: show bars.
        stress: also give the logits of one augmented copy of every test image, as from another scanner.

    Raises:
        ImageError: an image cannot be decoded.
        UsageError: ``fine_tune`` is no regular expression or matches no layer.
    """
    started = perf_counter()
    input_wait = InputWait()
    seed, features_s = settings.seed, 0.0
    branches, tail, tuned = model.branches, None, None
    if settings.protocol != "end-to-end":
        data = head_features(model, subsets, settings.augment, cache, progress, input_wait)
        features_s = perf_counter() - started
    if settings.protocol == "end-to-end":
        fit = end_to_end_fit(settings)
        tuned = train_end_to_end(
            model, subsets["train"].samples, fit, settings, progress=progress,
            backup=_backup(model, subsets, settings, cache),
        )  # fmt: skip
        result = FitResult(fit, {}, [])
    elif settings.protocol == "paper":
        fit = paper_fit(settings)
        result = fit_paper(model, data["train"], data["val"], seed=seed, progress=progress, settings=fit)
    else:
        grid = settings.fits or DEFAULT_GRID
        result = fit_default(model, data["train"], data["val"], seed=seed, progress=progress, grid=grid)
    if settings.fine_tune:
        if result.settings.logistic:
            # The regression's units come in pairs that belong together, and its prior replaces dropout.
            for layer in model.head.layers:
                if isinstance(layer, keras.layers.Dropout):
                    layer.rate = 0.0
        backup = _backup(model, subsets, settings, cache)
        unfreeze(model, settings.fine_tune)
        tail = cut(model)
        if tail.row_bytes * len(subsets["train"]) * (settings.augment + 1) <= _TAIL_BYTES:
            branches = tail.trunks
            parts = _trunk_features(tail, subsets, settings.augment, cache, progress, input_wait)
            tuned = fine_tune_tail(
                tail, parts["train"], parts["val"], _fine_tune_fit(settings), seed=seed, progress=progress,
                backup=backup,
            )  # fmt: skip
        else:
            tail = None
            tuned = fine_tune(
                model, subsets["train"].samples, subsets["val"].samples, layers=settings.fine_tune,
                settings=_fine_tune_fit(settings), seed=seed, backup=backup, progress=progress,
                copies=settings.augment,
            )  # fmt: skip

    def logits_of(samples: Sequence[Sample], copies: int = 0) -> Logits:
        if tuned is not None and tail is None:
            # No other run has these tuned backbones: their features are not cached.
            found = compute_features(branches, samples, copies=copies)
        else:
            found = extract_features(
                branches, samples, cache=cache, copies=copies, progress=progress, input_wait=input_wait
            )
        rows = {name: x[-len(samples) :] for name, x in found.items()}
        if tail is None:
            return head_logits(model, FeatureSet(rows, np.zeros(len(samples), np.int64)))
        return np.asarray(tail.logit.predict(list(rows.values()), batch_size=64, verbose=0), np.float64).reshape(-1)

    # Everything at once: each call calculates the digests of the backbones again.
    everything = logits_of([sample for subset in SUBSETS for sample in subsets[subset].samples])
    bounds = np.cumsum([0, *(len(subsets[subset]) for subset in SUBSETS)])
    logits: dict[str, Logits] = {
        subset: everything[low:high] for subset, low, high in zip(SUBSETS, bounds[:-1], bounds[1:], strict=True)
    }
    if stress:
        logits["stress"] = logits_of(subsets["test"].samples, copies=1)
    divisor = 1.0
    if settings.protocol != "paper":
        divisor = temperature(subsets["val"].y, logits["val"])
        layer = model.full.get_layer("logit")
        layer.set_weights([weight / divisor for weight in layer.get_weights()])
        logits = {subset: values / divisor for subset, values in logits.items()}
    fit_s = perf_counter() - started - features_s
    return Fitted(result, tuned, divisor, logits, {"features": features_s, "fit": fit_s}, input_wait)


def head_features(
    model: FusionModel,
    subsets: dict[str, Dataset],
    copies: int,
    cache: Path,
    progress: bool,
    input_wait: InputWait | None = None,
) -> dict[str, FeatureSet]:
    """Features by subset; each training image with ``copies`` augmented copies.

    The other arguments are those of `train.features.cache.extract_features`. All subsets share one progress bar.
    """
    samples = [sample for subset in SUBSETS for sample in subsets[subset].samples]
    features = extract_features(model.branches, samples, cache=cache, progress=progress, input_wait=input_wait)
    bounds = np.cumsum([0, *(len(subsets[subset]) for subset in SUBSETS)])
    channels = {name: map_channels(backbone) for name, backbone in model.backbones.items()}
    result: dict[str, FeatureSet] = {
        subset: FeatureSet({name: x[low:high] for name, x in features.items()}, subsets[subset].y, 1, channels)
        for subset, low, high in zip(SUBSETS, bounds[:-1], bounds[1:], strict=True)
    }
    if copies:
        train = subsets["train"]
        augmented = extract_features(
            model.branches, train.samples, cache=cache, copies=copies, progress=progress, input_wait=input_wait
        )
        result["train"] = FeatureSet(augmented, np.tile(train.y, copies + 1), copies + 1, channels)
    return result


def _trunk_features(
    tail: Tail, subsets: dict[str, Dataset], copies: int, cache: Path, progress: bool, input_wait: InputWait
) -> dict[str, FeatureSet]:
    def of(samples: Sequence[Sample], copies: int) -> dict[str, Features]:
        return extract_features(
            tail.trunks, samples, cache=cache, copies=copies, progress=progress, input_wait=input_wait
        )

    train, val = subsets["train"], subsets["val"]
    return {
        "train": FeatureSet(of(train.samples, copies), np.tile(train.y, copies + 1), copies + 1),
        "val": FeatureSet(of(val.samples, 0), val.y),
    }


def paper_fit(settings: TrainSettings) -> FitSettings:
    """The fit of ``--protocol paper``: Table II, or what the settings have in its place."""
    changed = {name: getattr(settings, name) for name in ("learning_rate", "batch_size", "epochs")}
    return structs.replace(PAPER, **{name: value for name, value in changed.items() if value is not None})


def end_to_end_fit(settings: TrainSettings) -> FitSettings:
    """The fit of ``--protocol end-to-end``: `END_TO_END`, or what the settings have in its place."""
    changed = {name: getattr(settings, name) for name in ("learning_rate", "batch_size", "epochs")}
    kept = {name: value for name, value in changed.items() if value is not None}
    epochs = kept.get("epochs", END_TO_END.epochs)
    return structs.replace(END_TO_END, weight_decay=settings.weight_decay, patience=epochs, **kept)


def _fine_tune_fit(settings: TrainSettings) -> FitSettings:
    return FitSettings(
        settings.fine_tune_rate,
        settings.batch_size or PAPER.batch_size,
        settings.fine_tune_epochs,
        PAPER.patience,
        averaged=settings.average_weights,
    )


def _backup(model: FusionModel, subsets: dict[str, Dataset], settings: TrainSettings, cache: Path) -> Path:
    """Folder in which an interrupted fine-tuning is found again: its name is a digest of all that decides it."""
    weights = [weights_digest(backbone) for backbone in model.backbones.values()]
    data = [subsets["train"].digest, subsets["val"].digest]
    described = json.dumps([plain(settings), AUGMENT_VERSION, POLICY_VERSION, weights, data], sort_keys=True)
    return cache / "fine-tune" / sha256_bytes(described.encode())[:32]
