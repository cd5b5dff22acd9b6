"""The ablation as figures with intervals, as Markdown and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from sonoedge.benchmarks.report.html import render
from sonoedge.benchmarks.report.svg import Drawing, Scale
from sonoedge.benchmarks.retention.wording import shown
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.evaluation.calibration import expected_calibration_error
from sonoedge.train.evaluation.fold_auc import mean_fold_auc, paired_fold_auc_difference
from sonoedge.train.evaluation.intervals import Interval
from sonoedge.train.evaluation.metrics import classification_metrics, paired_mean_difference, sigmoid
from sonoedge.train.experiments.cross_validation import OutOfFold
from sonoedge.train.experiments.rows import ROWS
from sonoedge.train.markdown import markdown_table

_HEAD = (
    "row", "what", "split", "AUC", "by fold", "pooled AUC", "stress AUC", "accuracy", "sensitivity", "specificity",
    "Brier",
)  # fmt: skip
_PAIRS = ("second", "minus first", "metric", "difference", "second is")
_NOTE = (
    "Every image is tested once, by a model trained on other folds. AUC: mean of the folds; pooled AUC: all images "
    "together, after each fold's temperature. "
    "Stress: one augmented copy of each test image, as from another scanner. Intervals: 95 %, by group."
)


@dataclass(frozen=True)
class Line:
    """One row under one split: figures on all images, each tested once; intervals by group.

    ``mean_auc`` is the mean AUC of the folds; ``auc`` is over all images, after each fold's temperature scaling.
    """

    row: str
    title: str
    split: str
    mean_auc: Interval
    auc: Interval
    fold_aucs: tuple[float, ...]
    stress_auc: Interval | None
    accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    brier: Interval
    calibration_error: float


@dataclass(frozen=True)
class Pair:
    """Mean AUC of the folds (for a leak, also accuracy) of the second minus the first, on the same images."""

    first: str
    second: str
    metric: str
    difference: Interval

    @property
    def verdict(self) -> str:
        """Whether the second is higher or lower, as far as the interval can tell."""
        if self.difference.low > 0:
            return "higher"
        return "lower" if self.difference.high < 0 else "cannot tell"


def lines_of(dataset: Dataset, found: Sequence[OutOfFold]) -> list[Line]:
    """The figures of every row and split."""
    result = []
    for part in found:
        whole = classification_metrics(dataset.y, part.logits, groups=dataset.groups)
        cut = classification_metrics(dataset.y, part.margins, groups=dataset.groups)
        stress = None
        if part.stress is not None:
            stress = classification_metrics(dataset.y, part.stress, groups=dataset.groups)["auc"]
        folds = []
        for number in range(int(part.fold.max()) + 1):
            mine = part.fold == number
            folds.append(classification_metrics(dataset.y[mine], part.logits[mine], num_bootstrap=1)["auc"].value)
        mean = mean_fold_auc(dataset.y, part.logits, part.fold, dataset.groups)
        result.append(
            Line(
                part.row, ROWS[part.row].title, part.split, mean, whole["auc"], tuple(folds), stress,
                cut["accuracy"], cut["sensitivity"], cut["specificity"], whole["brier"],
                expected_calibration_error(dataset.y, sigmoid(part.logits)),
            )
        )  # fmt: skip
    return result


def pairs_of(dataset: Dataset, found: Sequence[OutOfFold]) -> list[Pair]:
    """Compare every row with the first, fused rows with single backbones, and the paper's split with ours."""
    at = {(part.row, part.split): part for part in found}
    first = found[0].row
    wanted = [(first, row) for row in dict.fromkeys(part.row for part in found) if row != first]
    for single, fused in (
        ("vgg19", "copies"),
        ("b0", "copies"),
        ("b0-tuned", "tuned-copies"),
        ("b0", "tuned-copies"),
    ):
        if first not in (single, fused):
            wanted.append((single, fused))
    pairs = []
    for a, b in wanted:
        for split in ("grouped", "sources"):
            if (a, split) in at and (b, split) in at:
                one, two = at[a, split], at[b, split]
                difference = paired_fold_auc_difference(
                    dataset.y, (one.logits, one.fold), (two.logits, two.fold), dataset.groups
                )
                pairs.append(Pair(a, b, "AUC", difference))
    for part in found:
        pairs += _by_source(dataset, at[first, "sources"], part) if (first, "sources") in at else []
    for row in dict.fromkeys(part.row for part in found):
        if (row, "grouped") in at and (row, "paper") in at:
            honest, leaky = at[row, "grouped"], at[row, "paper"]
            names = (f"{row}, grouped split", f"{row}, random split")
            difference = paired_fold_auc_difference(
                dataset.y, (honest.logits, honest.fold), (leaky.logits, leaky.fold), dataset.groups
            )
            pairs.append(Pair(*names, "AUC", difference))
            before, after = ((part.margins >= 0) == (dataset.y == 1) for part in (honest, leaky))
            difference = paired_mean_difference(before, after, dataset.y, dataset.groups)
            pairs.append(Pair(*names, "accuracy", difference))
    return pairs


def _by_source(dataset: Dataset, first: OutOfFold, second: OutOfFold) -> list[Pair]:
    """The difference on each source that was left out."""
    pairs = []
    for number, source in enumerate(dataset.sources if second.row != first.row else ()):
        mine = np.flatnonzero(first.fold == number)
        difference = paired_fold_auc_difference(
            dataset.y[mine],
            (first.logits[mine], first.fold[mine]),
            (second.logits[mine], second.fold[mine]),
            [dataset.groups[i] for i in mine],
        )
        pairs.append(Pair(first.row, second.row, f"AUC on {source}", difference))
    return pairs


def markdown(lines: Sequence[Line], pairs: Sequence[Pair], facts: str) -> str:
    """Both tables as Markdown."""
    rows = []
    for line in lines:
        figures = [
            shown(x)
            for x in (line.auc, line.stress_auc, line.accuracy, line.sensitivity, line.specificity, line.brier)
        ]
        rows.append([line.row, line.title, line.split, shown(line.mean_auc), _folds(line), *figures])
    parts = ["# Ablation", f"{facts}.", _NOTE, markdown_table(_HEAD, rows)]
    if pairs:
        compared = [[p.second, p.first, p.metric, shown(p.difference), p.verdict] for p in pairs]
        parts.append(markdown_table(_PAIRS, compared))
    return "\n\n".join([*parts, f"{INTENDED_USE}\n"])


def page(lines: Sequence[Line], pairs: Sequence[Pair], facts: str) -> str:
    """The page ``ablation.html``."""
    navigation = [("ablation", "Ablation"), ("comparisons", "Comparisons")]
    return render(
        "ablation",
        navigation=navigation[: 2 if pairs else 1],
        facts=facts,
        note=_NOTE,
        forest=_forest(lines),
        lines=[(line, _folds(line)) for line in lines],
        heads=[*_HEAD, "calibration error"],
        pairs=pairs,
        pair_heads=_PAIRS,
    )


def _forest(lines: Sequence[Line]) -> Markup:
    """AUC and stress AUC of every row with their intervals."""
    step, width = 34, 560
    height = step * len(lines) + 50
    values = [
        x
        for line in lines
        for interval in (line.mean_auc, line.stress_auc or line.mean_auc)
        for x in (interval.low, interval.high)
    ]
    x = Scale(max(0.0, min(values) - 0.02), min(1.0, max(values) + 0.02), 200, width - 14)
    drawing = Drawing(
        width, height, "AUC by row",
        "Filled dots: test images; squares: stressed copies; lines: 95 % intervals. "
        + ", ".join(f"{line.row} ({line.split}) {line.mean_auc.value:.3f}" for line in lines),
    )  # fmt: skip
    drawing.x_axis(x, height - 44, "AUC (dot: test images, square: stressed copies)", ".2f", top=4)
    for i, line in enumerate(lines):
        y = 4 + step * i + step / 2
        drawing.text(4, y + 4, f"{line.row}, {line.split}", style="name")
        for offset, interval, shape, colour in (
            (-5, line.mean_auc, "circle", 0),
            (7, line.stress_auc, "square", 1),
        ):
            if interval is None:
                continue
            drawing.line(x(interval.low), y + offset, x(interval.high), y + offset, "whisker", colour)
            drawing.marker(x(interval.value), y + offset, shape, colour, f"{line.row}: {shown(interval)}", 4)
    return drawing.render()


def _folds(line: Line) -> str:
    return " ".join(f"{value:.3f}" for value in line.fold_aucs)
