"""The AUC of a cross-validation: the mean of its folds, with intervals by group.

Each fold has a model of its own, and its scores are on a scale of their own. A pooled AUC compares a malignant
image of one fold with a benign one of another, so it also measures how alike the scales are. A temperature fitted
on some seventy images makes the scales alike only roughly. The mean of the folds compares images within a fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sonoedge.train.evaluation.bootstrap import bootstrap_interval, weighted_auc
from sonoedge.train.evaluation.intervals import UNDEFINED, Interval

Float = NDArray[np.float64]
Int = NDArray[np.int64]


def mean_fold_auc(
    y: Int, logits: Float, fold: Int, groups: Sequence[str] | None, *, num_bootstrap: int = 2000, seed: int = 0
) -> Interval:
    """Mean over the folds of the AUC within each; the bootstrap draws whole groups.

    Args:
        y: 0 or 1, (N,).
        logits: (N,).
        fold: number of the fold of each image, (N,).
        groups: N names; None: each image is its own group.
        num_bootstrap: resamples, at least 1.
        seed: equal seeds give equal intervals.

    Returns:
        95 % interval; NaN if a fold has one class only.
    """
    return _interval(
        y, groups, lambda weights: _mean_auc(y, logits, fold, weights), num_bootstrap=num_bootstrap, seed=seed
    )


def paired_fold_auc_difference(
    y: Int,
    first: tuple[Float, Int],
    second: tuple[Float, Int],
    groups: Sequence[str] | None,
    *,
    num_bootstrap: int = 2000,
    seed: int = 0,
) -> Interval:
    """`mean_fold_auc` of the second minus that of the first, on the same images.

    Args:
        y: 0 or 1, (N,).
        first, second: logits (N,) and fold numbers (N,); the folds may differ between the two.
        groups, num_bootstrap, seed: as for `mean_fold_auc`.

    Returns:
        95 % interval; NaN if a fold has one class only.
    """
    return _interval(
        y,
        groups,
        lambda weights: _mean_auc(y, *second, weights) - _mean_auc(y, *first, weights),
        num_bootstrap=num_bootstrap,
        seed=seed,
    )


def _interval(
    y: Int,
    groups: Sequence[str] | None,
    statistic: Callable[[Float], Float],
    *,
    num_bootstrap: int,
    seed: int,
) -> Interval:
    value = float(statistic(np.ones((1, y.size)))[0])
    if np.isnan(value):
        return UNDEFINED
    return bootstrap_interval(value, statistic, y, groups, num_bootstrap=num_bootstrap, seed=seed)


def _mean_auc(y: Int, logits: Float, fold: Int, weights: Float) -> Float:
    """Mean AUC (R,) for image weights (R, N); NaN if a fold is left with one class."""
    parts = [fold == number for number in np.unique(fold)]
    aucs: Float = np.mean([weighted_auc(y[mine], logits[mine], weights[:, mine]) for mine in parts], axis=0)
    return aucs
