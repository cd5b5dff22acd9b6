"""``train --sweep FILE``: try combinations of rate, batch and head width, and choose one on validation.

The file is TOML; a key that it leaves out keeps its value in `_DEFAULTS`::

    learning_rate = [1e-3, 1e-4, 1e-5]
    batch_size = [16, 32]
    units = [128, 256, 512]
    weight_decay = [0.01, 1.0]
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import keras
from matplotlib.figure import Figure

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.callbacks import listening
from sonoedge.train.evaluation.figures import COLORS, save_figure, tidy
from sonoedge.train.fitting.feature_set import FeatureSet
from sonoedge.train.fitting.heads import fit_default
from sonoedge.train.markdown import markdown_table
from sonoedge.train.models.fusion import Head, HeadSpec, build_head
from sonoedge.train.records.run_card import Point
from sonoedge.train.records.settings import FitSettings

_DEFAULTS: dict[str, list[Any]] = {
    "learning_rate": [1e-3],
    "batch_size": [32],
    "units": [256],
    "weight_decay": [1.0],
    "balanced": [False],
    "epochs": [60],
    "patience": [10],
}
_RANGES: dict[str, tuple[Any, float, float]] = {
    "learning_rate": ((int, float), 1e-9, 1.0),
    "batch_size": (int, 1, 4096),
    "units": (int, 1, 65536),
    "weight_decay": ((int, float), 0.0, 1e3),
    "balanced": (bool, 0, 1),
    "epochs": (int, 1, 10_000),
    "patience": (int, 1, 10_000),
}
MAX_POINTS = 1000
"""Combinations that a sweep may hold."""


def read_sweep(path: Path) -> list[tuple[int, FitSettings]]:
    """All combinations of a sweep file, as width of the head and settings of the fit.

    Raises:
        UsageError: the file cannot be read, names something unknown, holds a value out of range, or holds more than
            `MAX_POINTS` combinations.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read the sweep {path}: {error}") from error
    if unknown := sorted(document.keys() - _DEFAULTS.keys()):
        raise UsageError(f"{path} names {', '.join(unknown)}. A sweep takes: {', '.join(_DEFAULTS)}.")
    chosen = {}
    for name, default in _DEFAULTS.items():
        values = document.get(name, default)
        kind, low, high = _RANGES[name]
        right = isinstance(values, list) and values and all(
            isinstance(x, kind) and (kind is bool or not isinstance(x, bool)) and low <= x <= high for x in values
        )  # fmt: skip
        if not right:
            raise UsageError(f"{path}: {name} must be a list of values from {low} to {high}. Received: {values!r}.")
        chosen[name] = list(dict.fromkeys(values))
    points = [
        (units, FitSettings(float(rate), batch, epochs, patience, float(decay), balanced))
        for rate, batch, units, decay, balanced, epochs, patience in itertools.product(*chosen.values())
    ]
    if len(points) > MAX_POINTS:
        raise UsageError(f"{path} holds {len(points)} combinations; at most {MAX_POINTS}.")
    return points


def sweep(
    points: Sequence[tuple[int, FitSettings]],
    train: FeatureSet,
    val: FeatureSet,
    *,
    spec: HeadSpec,
    seed: int,
    progress: bool,
) -> list[Point]:
    """Fit every combination on cached features, each from the same seed.

    Args:
        points: from `read_sweep`.
        train, val: features.
        spec: of the head, apart from its width.
        seed: of each fit.
        progress: show a bar.
    """
    from tqdm import tqdm

    found = []
    with listening(()):  # so many epochs, and each of a fit that may not be taken
        for units, fit in tqdm(points, desc="sweep", disable=not progress):
            head = fresh_head(train, replace(spec, units=(units,)), seed)
            candidate = fit_default(head, train, val, seed=seed, progress=False, grid=(fit,)).candidates[0]
            loss = candidate["val_loss"]
            figures = (candidate["val_auc"], loss if isfinite(loss) else None, candidate["epochs_run"])
            found.append(Point(units, fit, *figures))
    return found


def fresh_head(train: FeatureSet, spec: HeadSpec, seed: int) -> Head:
    """A head as the sweep starts it: only the seed decides its weights, not what was drawn before."""
    keras.utils.set_random_seed(seed)
    return build_head({name: x.shape[1:] for name, x in train.features.items()}, spec)


def table(points: Sequence[Point]) -> str:
    """All combinations as Markdown, the best first."""
    head = ["rate", "batch", "width", "decay", "class weights", "validation AUC", "validation loss", "epochs"]
    rows = []
    for point in sorted(points, key=lambda p: p.rank, reverse=True):
        fit, figures = point.fit, (_digits(point.val_auc), _digits(point.val_loss), point.epochs_run)
        settings = (f"{fit.learning_rate:g}", fit.batch_size, point.units, f"{fit.weight_decay:g}")
        rows.append([*settings, "yes" if fit.balanced else "no", *figures])
    return markdown_table(head, rows) + "\n"


def _digits(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def plot_sweep(points: Sequence[Point], path: Path) -> None:
    """Draw validation AUC by learning rate into a PNG: one line for each batch size and width.

    Of points that differ in something else, the best is drawn.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    series = sorted({(point.fit.batch_size, point.units) for point in points})
    for number, (batch, units) in enumerate(series):
        best: dict[float, float] = {}
        for point in points:
            if (point.fit.batch_size, point.units) == (batch, units):
                rate = point.fit.learning_rate
                best[rate] = max(best.get(rate, 0.0), point.val_auc or 0.0)
        rates = sorted(best)
        colour, dash = COLORS[number % len(COLORS)], ("-", "--", ":")[number // len(COLORS) % 3]
        axes.plot(
            rates, [best[r] for r in rates], dash, color=colour, marker="o", label=f"batch {batch}, width {units}"
        )
    axes.set_xscale("log")
    axes.set(title="Sweep, chosen on validation", xlabel="Learning rate", ylabel="Validation AUC")
    tidy(axes)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)
