"""Bootstrap over groups, vectorised: a resample is a vector of image weights, not a copy of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.evaluation.intervals import UNDEFINED, Interval, group_index

Float = NDArray[np.float64]
Int = NDArray[np.int64]
_CHUNK_ELEMENTS = 4_000_000


def resamples(y: Int, group: Int, count: int, seed: int) -> Iterator[Float]:
    """Draw resamples of images as weights: how many times each image is drawn.

    Groups are drawn with replacement among those with the same classes (benign, malignant, both).

    Args:
        y: labels (N,), 0 or 1.
        group: group number (N,), as from `train.evaluation.intervals.group_index`.
        count: number of resamples, at least 1.
        seed: equal seeds give equal resamples.

    Yields:
        Weights (R, N), in blocks of bounded size; their R add up to ``count``.

    Raises:
        DataError: ``count`` is below 1.
    """
    if count < 1:
        raise DataError(f"A bootstrap needs at least one resample. Received: {count}.")
    rng = np.random.default_rng(seed)
    total = int(group.max()) + 1
    stratum = np.isin(np.arange(total), group[y == 1]) + 2 * np.isin(np.arange(total), group[y == 0])
    members = [np.flatnonzero(stratum == s) for s in (1, 2, 3)]
    block = max(1, _CHUNK_ELEMENTS // y.size)
    for start in range(0, count, block):
        rows = min(block, count - start)
        drawn = np.zeros((rows, total))
        for index in members:
            if index.size:
                drawn[:, index] = rng.multinomial(index.size, np.full(index.size, 1 / index.size), rows)
        yield drawn[:, group]


def weighted_auc(y: Int, score: Float, weights: Float) -> Float:
    """AUC of every resample: weighted Mann–Whitney statistic, ties count one half.

    Args:
        y: labels (N,), 0 or 1.
        score: (N,); any order-preserving scale.
        weights: (R, N), from `resamples`.

    Returns:
        (R,), NaN if a resample holds one class only.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * (y[order] == 1), starts, axis=1)
    negative = np.add.reduceat(ordered * (y[order] == 0), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return (positive * below).sum(axis=1) / pairs


def bootstrap_interval(
    value: float,
    statistic: Callable[[Float], Float],
    y: Int,
    groups: Sequence[str] | None,
    *,
    num_bootstrap: int = 2000,
    seed: int = 0,
) -> Interval:
    """`percentile_interval` of a statistic over resamples of whole groups.

    Args:
        value: the estimate.
        statistic: the statistic (R,) for image weights (R, N).
        y: labels (N,), 0 or 1.
        groups: N names; None: each image is its own group.
        num_bootstrap, seed: of `resamples`.
    """
    drawn = [statistic(weights) for weights in resamples(y, group_index(groups, y.size), num_bootstrap, seed)]
    return percentile_interval(value, np.concatenate(drawn))


def mean_interval(values: Sequence[float] | Float, y: Int, groups: Sequence[str]) -> Interval:
    """Mean over N images with its 95 % bootstrap interval by group; NaN values are left out.

    Args:
        values: one per image.
        y: labels, 0 or 1, by which the bootstrap is stratified.
        groups: group of each image.
    """
    array = np.asarray(values, np.float64)
    known = ~np.isnan(array)
    if not known.any():
        return UNDEFINED
    array = array[known]
    named = [group for group, k in zip(groups, known, strict=True) if k]

    def mean(weights: Float) -> Float:
        with np.errstate(invalid="ignore"):
            return (weights @ array) / weights.sum(axis=1)

    return bootstrap_interval(float(array.mean()), mean, y[known], named)


def percentile_interval(value: float, drawn: Float) -> Interval:
    """95 % percentile interval of a metric, widened to hold the estimate.

    Args:
        value: the estimate.
        drawn: the metric of every resample (R,); NaN is left out.
    """
    defined = drawn[~np.isnan(drawn)]
    low, high = np.percentile(defined, (2.5, 97.5)) if defined.size else (value, value)
    return Interval(value, min(value, float(low)), max(value, float(high)))


def collapsed(interval: Interval) -> bool:
    """Whether all resamples agreed, apart from rounding."""
    return interval.high - interval.low < 1e-9
