"""Figures of a training run: small PNG files, readable in print and by colour-blind readers.

The object-oriented Matplotlib API is used throughout: no global state, no display, safe in threads. Colours are
those of Okabe and Ito (Color Universal Design, 2008); curves also differ in line style.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from sklearn.metrics import auc

from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.files import write_bytes_atomic
from sonoedge.train.evaluation.metrics import roc_points

FOOTER = "Research use only – not a medical device"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", ":")
_NAMES = {"loss": "Loss", "accuracy": "Accuracy", "auc": "AUC"}


def plot_curves(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Loss, accuracy and AUC per epoch, training and validation in one panel each.

    Args:
        history: Keras history: metric name -> value per epoch, with ``val_`` names for the validation set.
            Only names of ``loss``, ``accuracy`` and ``auc`` that are present are drawn.
        path: PNG file to write.

    Raises:
        DataError: the history has none of the three.
    """
    panels = [name for name in _NAMES if name in history or f"val_{name}" in history]
    if not panels:
        raise DataError(f"A history needs loss, accuracy or auc. Received: {', '.join(history) or 'nothing'}.")
    figure = Figure(figsize=(4.2 * len(panels), 3.5), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for key, label, color, dash in (
            (name, "training", COLORS[0], "-"),
            (f"val_{name}", "validation", COLORS[1], "--"),
        ):
            if key in history:
                values = list(history[key])
                marker = "o" if len(values) < 40 else None
                epochs = range(1, len(values) + 1)
                axes.plot(epochs, values, dash, color=color, label=label, marker=marker, markersize=3)
        axes.set(title=_NAMES[name], xlabel="Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "loss":
            axes.set_ylim(bottom=0)
        tidy(axes)
        axes.legend(frameon=False)
    save_figure(figure, path)


def plot_confusion(
    y_true: ArrayLike, decision: ArrayLike, labels: Sequence[str], path: Path, title: str = "Confusion matrix"
) -> None:
    """Confusion matrix with counts and the share of each true class.

    Args:
        y_true: class index int (N,).
        decision: decided class index int or bool (N,).
        labels: class names in the order of the indices.
        path: PNG file to write.
        title: of the figure.

    Raises:
        DataError: no images, different lengths, or an index without a label.
    """
    truth, called = np.asarray(y_true).astype(np.int64), np.asarray(decision).astype(np.int64)
    count = len(labels)
    if truth.ndim != 1 or truth.shape != called.shape or truth.size == 0:
        raise DataError(
            f"Labels and decisions must have the same shape (N,). Received: {truth.shape} and {called.shape}."
        )
    if min(truth.min(), called.min()) < 0 or max(truth.max(), called.max()) >= count:
        raise DataError(f"Class indices must lie in 0–{count - 1}, one per label.")
    matrix = np.bincount(truth * count + called, minlength=count * count).reshape(count, count)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(1.6 + 1.5 * count, 1.5 + 1.35 * count), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        text = f"{matrix[row, column]}\n{share[row, column]:.1%}"
        color = "white" if share[row, column] > 0.55 else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=12)
    axes.set_xticks(range(count), labels)
    axes.set_yticks(range(count), labels, rotation=90, va="center")
    axes.set(title=title, xlabel="Decision", ylabel="Truth")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    save_figure(figure, path)


def plot_roc(curves: Mapping[str, tuple[ArrayLike, ArrayLike]], path: Path) -> None:
    """ROC curves, the AUC in the legend.

    Args:
        curves: name -> (y 0/1 (N,), logit (N,)). A set with one class only has no curve and is listed as n/a.
        path: PNG file to write.

    Raises:
        DataError: as for `train.evaluation.metrics.roc_points`, except for a single class.
    """
    figure = Figure(figsize=(4.8, 4.9), layout="constrained")
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color="0.7", linewidth=1)
    for (name, (y, logit)), color, dash in zip(curves.items(), cycle(COLORS), cycle(DASHES), strict=False):
        if np.unique(np.asarray(y)).size == 1:
            axes.plot([], [], dash, color=color, label=f"{name}: AUC n/a (one class)")
            continue
        false_positive_rate, true_positive_rate, _ = roc_points(y, logit)
        area = float(auc(false_positive_rate, true_positive_rate))
        axes.plot(false_positive_rate, true_positive_rate, dash, color=color, label=f"{name}: AUC {area:.3f}")
    axes.set(title="ROC curve", xlabel="1 – specificity", ylabel="Sensitivity")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    tidy(axes)
    if curves:
        axes.legend(frameon=False, loc="lower right")
    save_figure(figure, path)


def plot_pairs(pairs: Sequence[tuple[ArrayLike, ArrayLike, str]], path: Path) -> None:
    """Contact sheet: two images side by side with a caption, two pairs in a row.

    Args:
        pairs: first image, second image (uint8 (H, W, 3)), caption; at least one.
        path: PNG file to write.
    """
    rows = (len(pairs) + 1) // 2
    figure = Figure(figsize=(10, 2.9 * rows), layout="constrained")
    grid = np.atleast_2d(figure.subplots(rows, 4))
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (first, second, caption) in enumerate(pairs):
        row, column = divmod(number, 2)
        for offset, image in enumerate((first, second)):
            grid[row, 2 * column + offset].imshow(image)
        grid[row, 2 * column].set_title(caption, fontsize=7, loc="left")
    save_figure(figure, path)


def tidy(axes: Any) -> None:
    """Give Matplotlib axes the look that all figures share."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure with the footer as PNG; without a software tag, so that equal data give equal bytes."""
    figure.supxlabel(FOOTER, fontsize=7, color="0.4")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    write_bytes_atomic(Path(path), buffer.getvalue())
