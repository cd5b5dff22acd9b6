"""The training pipeline: data -> split -> frozen features -> head -> run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import keras
from msgspec import structs

from sonoedge.edge_runtime.device.peak_memory import peak_bytes, reset_peak
from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.callbacks import RunFinished, tell
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.data.sources import data_root, load_sources, scan_sources
from sonoedge.train.data.split import (
    SUBSETS,
    Split,
    Strategy,
    apply_split,
    joined,
    leak_count,
    make_split,
    read_split,
    write_split,
)
from sonoedge.train.evaluation.intervals import without_nan
from sonoedge.train.evaluation.results import draw_figures, predictions_csv, subset_metrics, summary
from sonoedge.train.evaluation.run_folder import MODEL, SPLIT, versions
from sonoedge.train.evaluation.subgroups import subgroups
from sonoedge.train.evaluation.thresholds import STEADY_RULE, steady_threshold
from sonoedge.train.features.cache import cost_in_words, default_cache
from sonoedge.train.features.input_wait import InputWait
from sonoedge.train.fitting.steps import build, configure_keras, fit_subsets, head_features
from sonoedge.train.fitting.sweep import fresh_head, plot_sweep, read_sweep, sweep, table
from sonoedge.train.fitting.workers import Task, compute_features_apart
from sonoedge.train.folders import atomic_directory
from sonoedge.train.models.backbones import parse_backbones, weights_digest
from sonoedge.train.models.fusion import FusionModel, HeadSpec
from sonoedge.train.records.reader import as_record, plain, write_record
from sonoedge.train.records.run_card import CARD, Point, TrainedCard
from sonoedge.train.records.settings import TrainSettings, with_whole_paths
from sonoedge.train.terminal import LOG
from sonoedge.train.tracking import check_logs, log_beside, log_into


def train(
    settings: TrainSettings,
    out: Path,
    *,
    cache: Path | None = None,
    workers: int = 1,
    progress: bool = True,
    logs: Sequence[str] = (),
    same_images: str | None = None,
) -> TrainedCard:
    """Train and write the run folder (see `train.evaluation.run_folder`); returns the run card.

    Args:
        settings: what decides the run.
        out: the run folder.
        cache: folder of cached features; by default `train.features.cache.default_cache`.
        workers: processes that compute features; the result is the same.
        progress: show bars.
        logs: see `train.tracking.LOGS`.
        same_images: digest of the images of the run that this one repeats; other images are worth a warning.

    Raises:
        DataError: the data cannot be used.
        MissingExtraError, ModelError: the weights cannot be had.
        UsageError: settings that contradict each other or the data, or ``out`` holds something else.
    """
    reset_peak()
    parse_backbones(settings.backbones)  # a wrong name fails before the images are read
    _check_split(settings)
    # What a sweep has chosen is not searched again.
    grid = read_sweep(Path(settings.sweep)) if settings.sweep and settings.fits is None else []
    check_logs(logs)
    configure_keras(settings)
    with atomic_directory(out, marker=CARD) as folder:
        subsets, split, notes = _data(settings, progress)
        for note in notes:
            LOG.info(note)
        describe_split(subsets, split)
        digest = joined(subsets).digest
        if same_images not in {None, digest}:
            LOG.warning("the images are not those of the run that is repeated: the result will differ.")

        model = build(settings)
        if settings.weights == "none":
            LOG.info("note: untrained backbones (--weights none): good for trying the pipeline, not for accuracy.")
        cache = cache or default_cache()
        input_wait = InputWait()
        if settings.protocol != "end-to-end":  # which trains the backbones, so that no features can be kept
            input_wait = _prepare_features(model, subsets, settings, cache, workers, progress)
        points: list[Point] = []
        if settings.sweep:
            data = head_features(model, subsets, settings.augment, cache, progress)
            spec = HeadSpec(settings.pooling, settings.units, settings.dropout)
            if grid:
                points = sweep(grid, data["train"], data["val"], spec=spec, seed=settings.seed, progress=progress)
                best = max(points, key=lambda point: point.rank)
                settings = structs.replace(settings, units=(best.units,), fits=(best.fit,))
                LOG.info(f"sweep: {len(points)} combinations, best validation AUC {best.rank[0]:.3f}")
                model = build(settings)
            start = fresh_head(data["train"], replace(spec, units=settings.units), settings.seed)
            model.head.set_weights(start.head.get_weights())
        fitted = fit_subsets(model, subsets, settings, cache=cache, progress=progress)
        logits, result, tuned = fitted.logits, fitted.result, fitted.tuned
        val_y = subsets["val"].y
        threshold = 0.5 if settings.protocol == "paper" else steady_threshold(val_y, logits["val"])
        metrics = {subset: subset_metrics(subsets[subset], logits[subset], threshold) for subset in ("val", "test")}
        found = {
            "kind": "sonoedge-run",
            "settings": plain(with_whole_paths(settings)),
            "labels": list(split.labels),
            "threshold": threshold,
            "threshold_rule": "0.5" if settings.protocol == "paper" else STEADY_RULE,
            "chosen_fit": plain(result.settings),
            "candidates": result.candidates,
            "temperature": fitted.temperature,
            "sweep": plain(points),
            "dataset": {
                "digest": digest,
                "notes": list(notes),
                "images": {subset: len(subsets[subset]) for subset in SUBSETS},
                "groups_on_both_sides": leak_count(split),
            },
            "weights": {name: weights_digest(backbone) for name, backbone in model.backbones.items()},
            "metrics": metrics,
            "subgroups": subgroups(subsets["test"], logits["test"], threshold),
            "history": result.history,
            "fine_tune_history": tuned,
            "seconds": {name: round(value, 2) for name, value in fitted.seconds.items()},
            "pipeline": _pipeline(input_wait + fitted.input_wait, workers),
            "peak_memory_bytes": peak_bytes(),
            "backend": keras.config.backend(),
            "versions": versions("sonoedge", "keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn"),
            "intended_use": INTENDED_USE,
        }
        card = as_record(without_nan(found), TrainedCard)
        model.full.save(folder / MODEL)
        write_split(split, folder / SPLIT)
        write_text_atomic(folder / "predictions.csv", predictions_csv(subsets, logits, split.labels))
        if points:
            write_text_atomic(folder / "sweep.md", table(points))
            plot_sweep(points, folder / "sweep.png")
        draw_figures(folder, subsets, logits, split.labels, threshold, tuned or result.history)
        log_into(logs, card, folder)
        write_record(card, folder / CARD)
    LOG.info(summary(card, out))
    tell(RunFinished(out, card))
    log_beside(logs, card, out)
    return card


def _prepare_features(
    model: FusionModel,
    subsets: dict[str, Dataset],
    settings: TrainSettings,
    cache: Path,
    workers: int,
    progress: bool,
) -> InputWait:
    """Say what the features cost; with several workers, compute them."""
    everything = [sample for subset in SUBSETS for sample in subsets[subset].samples]
    if cost := cost_in_words(model.branches, everything, subsets["train"].samples, settings.augment, cache):
        LOG.info(cost)
    if workers == 1:
        return InputWait()
    tasks: list[Task] = [(everything, 0)]
    if settings.augment:
        tasks.append((subsets["train"].samples, settings.augment))
    return compute_features_apart(settings, tasks, cache=cache, workers=workers, progress=progress)


def _pipeline(input_wait: InputWait, workers: int) -> dict[str, Any]:
    """How many images were not in the cache, and the share of the time in which the backbones waited for one."""
    share = input_wait.share
    return {
        "workers": workers,
        "images_computed": input_wait.images,
        "seconds": round(input_wait.total_s, 2),
        "waiting_share": None if share is None else round(share, 4),
    }


def _data(settings: TrainSettings, progress: bool) -> tuple[dict[str, Dataset], Split, tuple[str, ...]]:
    """Images by subset, the split, and what was merged or left out."""
    if settings.split in get_args(Strategy):
        dataset = load_sources(
            settings.data,
            classes=settings.classes,
            groups=settings.groups,
            skip_unreadable=settings.skip_unreadable,
            progress=progress,
        )
        _require_two(dataset.labels)
        split = make_split(dataset, strategy=cast(Strategy, settings.split), seed=settings.seed)
    else:
        split = read_split(Path(settings.split))
        _require_two(split.labels)
        classes = settings.classes or split.labels
        # No groups are formed: the split has its own.
        dataset = scan_sources(
            settings.data, classes=classes, skip_unreadable=settings.skip_unreadable, progress=progress
        )
        split = structs.replace(split, data_root=data_root(dataset))
    return apply_split(dataset, split), split, dataset.notes


def _require_two(labels: Sequence[str]) -> None:
    if len(labels) != 2:
        raise DataError(f"The classifier is binary. Classes: {', '.join(labels)}; choose two with --classes.")


def _check_split(settings: TrainSettings) -> None:
    """Refuse a split that is neither a strategy nor a file, and groups beside a file, which has its own."""
    if settings.split in get_args(Strategy):
        return
    if not Path(settings.split).is_file():
        raise UsageError(f"--split takes grouped, paper or the split.json of a run. Received: {settings.split!r}.")
    if settings.groups:
        raise UsageError("--groups cannot be used with --split FILE, which has groups of its own. Use one of them.")


def describe_split(subsets: dict[str, Dataset], split: Split) -> None:
    """Log images, groups and classes of each subset, and a warning about leaks."""
    for subset in SUBSETS:
        data = subsets[subset]
        counts = ", ".join(f"{int((data.y == k).sum())} {label}" for k, label in enumerate(data.labels))
        LOG.info(f"{subset:<6}{len(data):>6} images in {len(set(data.groups))} groups ({counts})")
        for source in data.sources if len(data.sources) > 1 else ():
            own = [sample.label for sample in data.samples if sample.source == source]
            parts = ", ".join(f"{own.count(k)} {label}" for k, label in enumerate(data.labels))
            LOG.info(f"{'':<6}{len(own):>6} of {source} ({parts})")
    if leaks := leak_count(split):
        LOG.warning(f"{leaks} validation and test images have a copy or the same patient in training.")
