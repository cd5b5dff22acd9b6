"""The AUC of a cross-validation: the mean of its folds, with intervals by group.

Each fold has a model of its own, and its scores are on a scale of their own. Pooled, a malignant image of one fold
is compared with a benign one of another, so that the pooled AUC also measures how alike the scales are; a
temperature fitted on some seventy images makes them alike only roughly. The mean compares within folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sonoedge.train.evaluation.bootstrap import percentile_interval, resamples, weighted_auc
from sonoedge.train.evaluation.intervals import UNDEFINED, Interval, group_index

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
        groups: N names; by default each image is its own group.
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
    """Mean of the folds of the second minus that of the first, on the same images.

    Args:
        y: 0 or 1, (N,).
        first, second: logits (N,) and fold numbers (N,), which may differ between the two.
        groups: N names; by default each image is its own group.
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
    drawn = [statistic(weights) for weights in resamples(y, group_index(groups, y.size), num_bootstrap, seed)]
    return percentile_interval(value, np.concatenate(drawn))


def _mean_auc(y: Int, logits: Float, fold: Int, weights: Float) -> Float:
    """Mean AUC (R,) for image weights (R, N); NaN where a fold is left with one class."""
    parts = [fold == number for number in np.unique(fold)]
    aucs: Float = np.mean([weighted_auc(y[mine], logits[mine], weights[:, mine]) for mine in parts], axis=0)
    return aucs
