"""Probability calibration: how often images with a predicted probability are positive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.evaluation.bootstrap import bootstrap_interval
from sonoedge.train.evaluation.intervals import Interval, group_index, wilson
from sonoedge.train.evaluation.metrics import Float, checked_scores

BINS = 10
"""Bins of equal width over 0–1."""


@dataclass(frozen=True)
class Bin:
    """One bin of the reliability diagram."""

    images: int
    mean_probability: float
    observed: Interval


def expected_calibration_error(y_true: ArrayLike, probability: ArrayLike, bins: int = BINS) -> float:
    """Mean absolute gap between probability and observed share, over bins of equal width, weighted by their counts.

    (Naeini et al., AAAI 2015, for the probability of the positive class.)

    Args:
        y_true: int (N,), 0 or 1.
        probability: (N,), 0–1.
        bins: at least 1.

    Raises:
        DataError: as for `train.evaluation.metrics.checked_scores`, a probability outside 0–1, or no bins.
    """
    y, p = checked_scores(y_true, probability)
    if p.min() < 0 or p.max() > 1 or bins < 1:
        raise DataError(f"Probabilities must lie in 0–1, bins be positive. Received: {p.min()}–{p.max()}, {bins}.")
    index = _bin_of(p, bins)
    return float(np.abs(np.bincount(index, p - y, minlength=bins)).sum() / y.size)


def calibration_error(y: NDArray[np.int64], probability: Float, groups: Sequence[str]) -> Interval:
    """Expected calibration error, bootstrapped by group. Resampling adds noise, so the interval leans upwards."""
    value = expected_calibration_error(y, probability)
    gaps = np.zeros((y.size, BINS))
    gaps[np.arange(y.size), _bin_of(probability, BINS)] = probability - y
    return bootstrap_interval(
        value, lambda weights: np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1), y, groups
    )


def reliability(y: NDArray[np.int64], probability: Float, groups: Sequence[str]) -> tuple[Bin, ...]:
    """The bins of equal width that hold images; Wilson intervals count each group in a bin as one image."""
    group = group_index(groups, y.size)
    index = _bin_of(probability, BINS)
    bins = []
    for k in np.unique(index):
        inside = index == k
        units = np.unique(group[inside]).size
        observed = wilson(float(y[inside].mean()) * units, units)
        bins.append(Bin(int(inside.sum()), float(probability[inside].mean()), observed))
    return tuple(bins)


def _bin_of(probability: Float, bins: int) -> NDArray[np.int64]:
    return np.minimum((probability * bins).astype(np.int64), bins - 1)
