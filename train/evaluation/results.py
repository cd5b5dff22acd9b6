"""What every finished run leaves behind: metrics, predictions, figures, the printed summary."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.data.split import SUBSETS
from sonoedge.train.evaluation.figures import plot_confusion, plot_curves, plot_roc
from sonoedge.train.evaluation.intervals import Interval
from sonoedge.train.evaluation.metrics import classification_metrics, sigmoid
from sonoedge.train.records.run_card import RunCard, TrainedCard
from sonoedge.train.tables import Column, fitted

Logits = NDArray[np.float64]
History = dict[str, list[float]]
"""By name of a quantity, such as ``val_loss``, its value after every epoch."""


def subset_metrics(dataset: Dataset, logits: Logits, threshold: float) -> dict[str, list[float]]:
    """The metrics of `train.evaluation.metrics` by name, each ``[value, low, high]`` of a 95 % interval by group.

    Args:
        dataset: N images.
        logits: (N,).
        threshold: probability.
    """
    found = classification_metrics(dataset.y, logits, threshold=threshold, groups=dataset.groups)
    return {name: interval_list(interval) for name, interval in found.items()}


def interval_list(interval: Interval) -> list[float]:
    """``[value, low, high]`` of a 95 % interval, rounded for JSON."""
    return [round(float(x), 5) for x in (interval.value, interval.low, interval.high)]


def predictions_csv(subsets: dict[str, Dataset], logits: dict[str, Logits], labels: Sequence[str]) -> str:
    """Text of predictions.csv: image, sha256, subset, label, group, logit."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["image", "sha256", "subset", "label", "group", "logit"])
    for subset in SUBSETS:
        for sample, logit in zip(subsets[subset].samples, logits[subset], strict=True):
            row = [sample.relative_path, sample.sha256, subset, labels[sample.label], sample.group, f"{logit:.6f}"]
            table.writerow(row)
    return buffer.getvalue()


def draw_figures(
    folder: Path,
    subsets: dict[str, Dataset],
    logits: dict[str, Logits],
    labels: Sequence[str],
    threshold: float,
    history: History,
) -> None:
    """Draw curves.png, confusion.png (test images) and roc.png (validation and test images) into a folder."""
    decision = (sigmoid(logits["test"]) >= threshold).astype(np.int64)
    plot_curves(history, folder / "curves.png")
    plot_confusion(subsets["test"].y, decision, labels, folder / "confusion.png", title="Test images")
    curves = {subset: (subsets[subset].y, logits[subset]) for subset in ("val", "test")}
    plot_roc(curves, folder / "roc.png")


def summary(card: RunCard, out: Path) -> str:
    """What the terminal shows of a finished run: ``card`` is the run card, ``out`` the run folder."""
    rows = []
    for subset, metrics in card.metrics.items():
        cells = [shown(*metrics[name]) for name in ("accuracy", "auc", "sensitivity", "specificity")]
        rows.append([subset, *cells, ""])
    titles = [Column(title, 22) for title in ("accuracy", "AUC", "sensitivity", "specificity")]
    table = fitted([Column("", 8, left=True), *titles, Column("(95 % intervals)", left=True)], rows)
    lines = [f"\n{table}"]
    seconds = card.seconds
    lines.append(
        f"threshold {card.threshold:.3f} ({card.threshold_rule}); weights: {card.settings.weights}; "
        f"features {seconds['features']:.0f} s, fit {seconds['fit']:.0f} s"
    )
    pipeline = card.pipeline if isinstance(card, TrainedCard) else None
    if pipeline is not None and pipeline.waiting_share is not None:
        lines.append(
            f"{pipeline.images_computed} images computed in {pipeline.seconds:.0f} s; waiting for images: "
            f"{pipeline.waiting_share:.1%} of it"
        )
    lines += [f"wrote {out}", INTENDED_USE]
    return "\n".join(lines)


def shown(value: float | None, low: float | None, high: float | None) -> str:
    """Value and interval as text, such as ``0.948 [0.856, 0.988]``; ``undefined`` if the value is None."""
    undefined = value is None or low is None or high is None
    return "undefined" if undefined else f"{value:.3f} [{low:.3f}, {high:.3f}]"
