"""The training pipeline: data -> split -> frozen features -> head -> run folder."""

from __future__ import annotations

import csv
import io
import json
import math
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast, get_args

import keras
import numpy as np

from edge_runtime.bundle import INTENDED_USE
from edge_runtime.errors import DataError, UsageError
from edge_runtime.files import atomic_directory, write_text_atomic
from train.backbones import parse_backbones, weights_digest
from train.data import Dataset, load_dataset
from train.features import default_cache
from train.figures import plot_confusion, plot_curves, plot_roc
from train.fit import History
from train.intervals import Interval
from train.metrics import classification_metrics, sigmoid, youden_threshold
from train.model import HeadSpec
from train.run_folder import CARD, MODEL, SPLIT, versions
from train.split import SUBSETS, Split, Strategy, apply_split, leak_count, make_split, read_split, write_split
from train.stages import Logits, TrainSettings, build, fit_subsets, head_features
from train.sweep import Point, as_json, fresh_head, plot_sweep, read_sweep, sweep, table

__all__ = ["TrainSettings", "interval_list", "peak_memory_bytes", "train"]


def train(
    settings: TrainSettings, out: Path, *, cache: Path | None = None, progress: bool = True, verbose: bool = True
) -> dict[str, Any]:
    """Train and write the run folder (see `train.run_folder`); returns the run card.

    Raises:
        DataError: the data cannot be used.
        ModelError: the weights cannot be had.
    """
    say = print if verbose else _silent
    parse_backbones(settings.backbones)  # a wrong name fails before the images are read
    if settings.sweep:
        read_sweep(Path(settings.sweep))
    _configure_keras(settings)
    with atomic_directory(out, marker=CARD) as folder:
        dataset = load_dataset(
            settings.data,
            classes=settings.classes,
            groups=settings.groups,
            skip_unreadable=settings.skip_unreadable,
            progress=progress,
        )
        if len(dataset.labels) != 2:
            raise DataError(
                f"The classifier is binary. Classes: {', '.join(dataset.labels)}; choose two with --classes."
            )
        split = _split(dataset, settings)
        subsets = apply_split(dataset, split)
        for line in (*dataset.notes, *_describe(subsets, split)):
            say(line)

        model = build(settings)
        if settings.weights == "none":
            say("note: untrained backbones (--weights none): good for trying the pipeline, not for accuracy.")
        cache = cache or default_cache()
        points: list[Point] = []
        if settings.sweep:
            data = head_features(model, subsets, settings, cache=cache, progress=progress)
            spec = HeadSpec(settings.pooling, settings.units, settings.dropout)
            grid = read_sweep(Path(settings.sweep))
            points = sweep(grid, data["train"], data["val"], spec=spec, seed=settings.seed, progress=progress)
            best = max(points, key=lambda point: point.rank)
            settings = replace(settings, units=(best.units,), fits=(best.fit,))
            say(f"sweep: {len(points)} combinations, best validation AUC {best.val_auc:.3f}")
            model = build(settings)
            start = fresh_head(data["train"], replace(spec, units=settings.units), settings.seed)
            model.head.set_weights(start.head.get_weights())
        fitted = fit_subsets(model, subsets, settings, cache=cache, progress=progress)
        logits, result, tuned = fitted.logits, fitted.result, fitted.tuned
        val_y = subsets["val"].y
        threshold = 0.5 if settings.protocol == "paper" else youden_threshold(val_y, logits["val"])
        metrics = {subset: _metrics(subsets[subset], logits[subset], threshold) for subset in ("val", "test")}
        card = {
            "settings": asdict(settings),
            "labels": list(dataset.labels),
            "threshold": threshold,
            "threshold_rule": "0.5" if settings.protocol == "paper" else "Youden's J on validation",
            "chosen_fit": asdict(result.settings),
            "candidates": result.candidates,
            "temperature": fitted.temperature,
            "sweep": as_json(points),
            "dataset": {
                "digest": dataset.digest,
                "notes": list(dataset.notes),
                "images": {subset: len(subsets[subset]) for subset in SUBSETS},
                "groups_on_both_sides": leak_count(split),
            },
            "weights": {name: weights_digest(backbone) for name, backbone in model.backbones.items()},
            "metrics": metrics,
            "history": result.history,
            "fine_tune_history": tuned,
            "seconds": {name: round(value, 2) for name, value in fitted.seconds.items()},
            "peak_memory_bytes": peak_memory_bytes(),
            "backend": keras.config.backend(),
            "versions": versions("sonoedge", "keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn"),
            "intended_use": INTENDED_USE,
        }
        card = _without_nan(card)
        model.full.save(folder / MODEL)
        write_split(split, folder / SPLIT)
        write_text_atomic(folder / "predictions.csv", _predictions(subsets, logits, dataset.labels))
        if points:
            write_text_atomic(folder / "sweep.md", table(points))
            plot_sweep(points, folder / "sweep.png")
        _draw(folder, subsets, logits, dataset.labels, threshold, tuned or result.history)
        write_text_atomic(folder / CARD, json.dumps(card, indent=2, allow_nan=False) + "\n")
    say(_summary(card, out))
    return card


def peak_memory_bytes() -> int:
    """Largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _split(dataset: Dataset, settings: TrainSettings) -> Split:
    if settings.split in get_args(Strategy):
        return make_split(dataset, strategy=cast(Strategy, settings.split), seed=settings.seed)
    if not Path(settings.split).is_file():
        raise UsageError(f"--split takes grouped, paper or the split.json of a run. Received: {settings.split!r}.")
    return read_split(Path(settings.split))


def _describe(subsets: dict[str, Dataset], split: Split) -> list[str]:
    lines = []
    for subset in SUBSETS:
        data = subsets[subset]
        counts = ", ".join(f"{int((data.y == k).sum())} {label}" for k, label in enumerate(data.labels))
        lines.append(f"{subset:<6}{len(data):>6} images in {len(set(data.groups))} groups ({counts})")
    if leaks := leak_count(split):
        lines.append(f"warning: {leaks} validation and test images have a copy or the same patient in training.")
    return lines


def _metrics(dataset: Dataset, logits: Logits, threshold: float) -> dict[str, list[float]]:
    found = classification_metrics(dataset.y, logits, threshold=threshold, groups=dataset.groups)
    return {name: interval_list(interval) for name, interval in found.items()}


def interval_list(interval: Interval) -> list[float]:
    """``[value, low, high]`` of a 95 % interval, rounded for JSON."""
    return [round(float(x), 5) for x in (interval.value, interval.low, interval.high)]


def _predictions(subsets: dict[str, Dataset], logits: dict[str, Logits], labels: Sequence[str]) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["image", "sha256", "subset", "label", "group", "logit"])
    for subset in SUBSETS:
        for sample, logit in zip(subsets[subset].samples, logits[subset], strict=True):
            row = [sample.relative_path, sample.sha256, subset, labels[sample.label], sample.group, f"{logit:.6f}"]
            table.writerow(row)
    return buffer.getvalue()


def _draw(
    folder: Path,
    subsets: dict[str, Dataset],
    logits: dict[str, Logits],
    labels: Sequence[str],
    threshold: float,
    history: History,
) -> None:
    decision = (sigmoid(logits["test"]) >= threshold).astype(np.int64)
    plot_curves(history, folder / "curves.png")
    plot_confusion(subsets["test"].y, decision, labels, folder / "confusion.png", title="Test images")
    curves = {subset: (subsets[subset].y, logits[subset]) for subset in ("val", "test")}
    plot_roc(curves, folder / "roc.png")


def _summary(card: dict[str, Any], out: Path) -> str:
    lines = [f"\n{'':<8}{'accuracy':>22}{'AUC':>22}{'sensitivity':>22}{'specificity':>22}   (95 % intervals)"]
    for subset, metrics in card["metrics"].items():
        cells = [_shown(*metrics[name]) for name in ("accuracy", "auc", "sensitivity", "specificity")]
        lines.append(f"{subset:<8}" + "".join(f"{cell:>22}" for cell in cells))
    seconds = card["seconds"]
    lines.append(
        f"threshold {card['threshold']:.3f} ({card['threshold_rule']}); weights: {card['settings']['weights']}; "
        f"features {seconds['features']:.0f} s, fit {seconds['fit']:.0f} s"
    )
    lines += [f"wrote {out}", INTENDED_USE]
    return "\n".join(lines)


def _shown(value: float | None, low: float | None, high: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _without_nan(value: Any) -> Any:
    """The same with null for what is undefined: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _configure_keras(settings: TrainSettings) -> None:
    keras.config.set_dtype_policy("mixed_float16" if settings.mixed_precision else "float32")
    if settings.data_parallel:
        try:
            keras.distribution.set_distribution(keras.distribution.DataParallel())
        except (ValueError, RuntimeError, AttributeError) as error:
            backend = keras.config.backend()
            raise UsageError(f"--data-parallel does not work with the {backend} backend here: {error}") from error


def _silent(*lines: object) -> None:
    return None
