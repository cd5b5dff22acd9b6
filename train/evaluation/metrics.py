"""Classification metrics with confidence intervals that respect groups (patients, source images).

Conventions: ``y_true`` is 0 (benign) or 1 (malignant), scores are logits, an image is called positive when
``sigmoid(logit) >= threshold``, every threshold is a probability, every interval has 95 %.

Images of one group are not independent. The intervals are percentile bootstraps that draw whole groups with
replacement, separately among the groups with benign images only, with malignant images only and with both, so that
each resample keeps both classes (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13).
A bootstrap shrinks to nothing near 0 and 1, so it is joined with a score interval whose sample size is the number
of groups, as if the images of a group were copies of one another: Wilson for the proportions (F1 through
``J = TP / (TP + FP + FN)``, ``F1 = 2 J / (1 + J)``), Newcombe's Method 5 for the AUC. For the Brier score Wilson is
used only if all resamples agree: no variable in 0–1 with the same mean varies more than a Bernoulli variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.metrics import roc_curve

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.evaluation.bootstrap import (
    bootstrap_interval,
    collapsed,
    percentile_interval,
    resamples,
    weighted_auc,
)
from sonoedge.train.evaluation.intervals import (
    UNDEFINED,
    Interval,
    auc_score_interval,
    group_index,
    paired_difference,
    union,
    wilson,
)

METRIC_NAMES = ("accuracy", "auc", "sensitivity", "specificity", "precision", "f1", "brier")
Float = NDArray[np.float64]


def sigmoid(logit: ArrayLike) -> Float:
    """Probability float64 of a logit array of any shape; saturates at 0 and 1 without overflow."""
    return np.asarray(expit(np.asarray(logit, np.float64)))


def classification_metrics(
    y_true: ArrayLike,
    logit: ArrayLike,
    *,
    threshold: float = 0.5,
    groups: Sequence[str] | None = None,
    num_bootstrap: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """The metrics of ``METRIC_NAMES`` with 95 % intervals.

    Args:
        y_true: int (N,), 0 or 1.
        logit: float (N,).
        threshold: probability, 0–1.
        groups: N names of patients or source images; by default each image is its own group.
        num_bootstrap: resamples, at least 1.
        seed: of the resampling; equal seeds give equal intervals.

    Returns:
        Name -> `train.evaluation.intervals.Interval`; NaN if a metric is undefined (AUC with one class only,
        sensitivity without malignant images, precision without positive decisions, …).

    Raises:
        DataError: no images, different lengths, labels other than 0 and 1, non-finite logits, a threshold outside
            0–1.
    """
    y, score = checked_scores(y_true, logit)
    if not 0 <= threshold <= 1:
        raise DataError(f"A threshold is a probability in 0–1. Received: {threshold}.")
    group = group_index(groups, y.size)
    point = {name: float(v[0]) for name, v in _statistics(y, score, threshold, np.ones((1, y.size))).items()}
    parts = [_statistics(y, score, threshold, weights) for weights in resamples(y, group, num_bootstrap, seed)]
    decided = sigmoid(score) >= threshold

    def units(used: NDArray[np.bool_]) -> int:
        return int(np.unique(group[used]).size)

    sizes = {
        "accuracy": units(np.ones(y.size, bool)),
        "sensitivity": units(y == 1),
        "specificity": units(y == 0),
        "precision": units(decided),
        "f1": units(decided | (y == 1)),
        "brier": units(np.ones(y.size, bool)),
    }
    result = {}
    for name, value in point.items():
        if np.isnan(value):
            result[name] = UNDEFINED
            continue
        drawn = percentile_interval(value, np.concatenate([part[name] for part in parts]))
        if name == "auc":
            score_interval = auc_score_interval(value, sizes["sensitivity"], sizes["specificity"])
        elif name == "f1":
            jaccard = wilson(value / (2 - value) * sizes[name], sizes[name])
            score_interval = Interval(value, *(2 * j / (1 + j) for j in (jaccard.low, jaccard.high)))
        else:
            score_interval = wilson(value * sizes[name], sizes[name])
        joined = name != "brier" or collapsed(drawn)
        result[name] = union(drawn, score_interval) if joined else drawn
    return result


def paired_auc_difference(
    y_true: ArrayLike,
    logit_a: ArrayLike,
    logit_b: ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    num_bootstrap: int = 2000,
    seed: int = 0,
) -> Interval:
    """AUC of b minus AUC of a on the same images, bootstrapped by group.

    If all resamples agree (both orders equal, or both perfect), the bootstrap says nothing. Then a bound is used
    that holds for any scores. Let m be the number of groups of the smaller class: m benign groups can be matched
    with m malignant ones. Each match is won by a, by b, by both or by neither, and the probabilities of a and b
    differ by the AUC difference. The bound is Tango's interval of m such independent matches.

    Args:
        y_true: int (N,), 0 or 1.
        logit_a, logit_b: float (N,).
        groups, num_bootstrap, seed: as for `classification_metrics`.

    Returns:
        Difference in -1–1; NaN with one class only.

    Raises:
        DataError: as for `classification_metrics`.
    """
    y, a = checked_scores(y_true, logit_a)
    _, b = checked_scores(y_true, logit_b)
    whole = np.ones((1, y.size))
    value = float((weighted_auc(y, b, whole) - weighted_auc(y, a, whole))[0])
    if np.isnan(value):
        return UNDEFINED

    def difference(weights: Float) -> Float:
        return weighted_auc(y, b, weights) - weighted_auc(y, a, weights)

    interval = bootstrap_interval(value, difference, y, groups, num_bootstrap=num_bootstrap, seed=seed)
    if not collapsed(interval):
        return interval
    group = group_index(groups, y.size)
    matches = min(np.unique(group[y == 0]).size, np.unique(group[y == 1]).size)
    return union(interval, paired_difference(max(-value, 0) * matches, max(value, 0) * matches, matches))


def paired_mean_difference(
    first: ArrayLike,
    second: ArrayLike,
    y_true: ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    num_bootstrap: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of the second minus mean of the first on the same images, bootstrapped by group; for example accuracies.

    If all resamples agree, the score interval of as many independent pairs as there are groups is joined.

    Args:
        first, second: bool or float in 0–1 (N,).
        y_true: int (N,), 0 or 1; resamples keep the number of groups by class.
        groups, num_bootstrap, seed: as for `classification_metrics`.

    Raises:
        DataError: as for `classification_metrics`.
    """
    y, a = checked_scores(y_true, np.asarray(first, np.float64))
    _, b = checked_scores(y_true, np.asarray(second, np.float64))
    value = float(np.mean(b - a))

    def difference(weights: Float) -> Float:
        return weights @ (b - a) / weights.sum(axis=1)

    interval = bootstrap_interval(value, difference, y, groups, num_bootstrap=num_bootstrap, seed=seed)
    if not collapsed(interval):
        return interval
    units = int(group_index(groups, y.size).max()) + 1
    return union(interval, paired_difference(max(-value, 0) * units, max(value, 0) * units, units))


@dataclass(frozen=True)
class Confusion:
    """Counts; positive is the last label."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int

    @property
    def rows(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """By true class, then by decision."""
        return (self.true_negative, self.false_positive), (self.false_negative, self.true_positive)


def confusion(y: NDArray[np.int64], decided: NDArray[np.bool_]) -> Confusion:
    """Counts of labels (N,) and decisions (N,)."""
    positive = y == 1
    return Confusion(
        int((decided & positive).sum()),
        int((decided & ~positive).sum()),
        int((~decided & ~positive).sum()),
        int((~decided & positive).sum()),
    )


def balanced_accuracy(
    sensitivity: Interval,
    specificity: Interval,
    y: NDArray[np.int64],
    decided: NDArray[np.bool_],
    groups: Sequence[str],
) -> Interval:
    """Mean of sensitivity and specificity, bootstrapped by group.

    As in `classification_metrics`, the bootstrap is joined with an interval that does not shrink to nothing. Each
    of its sides is half the root of the summed squares of the two intervals' sides (Newcombe, Statistics in
    Medicine 17:873, 1998).
    """
    value = (sensitivity.value + specificity.value) / 2
    if np.isnan(value):
        return UNDEFINED

    def balanced(weights: Float) -> Float:
        hits, rejections = weights @ (decided & (y == 1)), weights @ (~decided & (y == 0))
        return (hits / (weights @ (y == 1)) + rejections / (weights @ (y == 0))) / 2

    down = np.hypot(sensitivity.value - sensitivity.low, specificity.value - specificity.low) / 2
    up = np.hypot(sensitivity.high - sensitivity.value, specificity.high - specificity.value) / 2
    added = Interval(value, max(0.0, float(value - down)), min(1.0, float(value + up)))
    return union(bootstrap_interval(value, balanced, y, groups), added)


def roc_points(y_true: ArrayLike, logit: ArrayLike) -> tuple[Float, Float, Float]:
    """Corners of the ROC curve: false positive rate, true positive rate, threshold (probability), each (K,).

    Raises:
        DataError: as for `classification_metrics`, or one class only.
    """
    y, score = checked_scores(y_true, logit, both=True)
    false_positive_rate, true_positive_rate, cut = roc_curve(y, score)
    return false_positive_rate, true_positive_rate, sigmoid(cut)


def checked_scores(y_true: ArrayLike, logit: ArrayLike, both: bool = False) -> tuple[NDArray[np.int64], Float]:
    """Labels int64 (N,) and finite scores float64 (N,).

    Raises:
        DataError: no images, different shapes, labels other than 0 and 1, a score that is not finite, or (if
            ``both``) one class only.
    """
    y, score = np.asarray(y_true), np.asarray(logit, np.float64)
    if y.ndim != 1 or y.shape != score.shape or y.size == 0:
        raise DataError(
            f"Labels and scores must have the same shape (N,), N at least 1. Received: {y.shape} and {score.shape}."
        )
    if not np.isin(y, (0, 1)).all():
        raise DataError(f"Labels must be 0 or 1. Received: {np.unique(y)[:5].tolist()}.")
    if not np.isfinite(score).all():
        raise DataError(f"Scores must be finite. Received: {int((~np.isfinite(score)).sum())} NaN or infinite.")
    if both and np.unique(y).size < 2:
        raise DataError(f"Both classes are needed. Received: only label {int(y[0])}.")
    return y.astype(np.int64), score


def _statistics(y: NDArray[np.int64], score: Float, threshold: float, weights: Float) -> dict[str, Float]:
    """Every metric (R,) for image weights (R, N); NaN if it is undefined."""
    probability = sigmoid(score)
    decided = probability >= threshold
    total, positive, called = weights.sum(axis=1), weights @ (y == 1), weights @ decided
    true_positive, true_negative = weights @ (decided & (y == 1)), weights @ (~decided & (y == 0))
    with np.errstate(invalid="ignore"):
        return {
            "accuracy": (true_positive + true_negative) / total,
            "auc": weighted_auc(y, score, weights),
            "sensitivity": true_positive / positive,
            "specificity": true_negative / (total - positive),
            "precision": true_positive / called,
            "f1": 2 * true_positive / (positive + called),
            "brier": weights @ (probability - y) ** 2 / total,
        }
