"""Confidence intervals for proportions, AUC and paired differences; none of them ever has zero width.

A test set without a single error does not prove that there are none: 0 flips in 97 images still allow 3 %.
Counts may be fractional: if images are pooled into groups, an effective sample size replaces their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm

from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.proportion import GroupedCount, Interval, check_counts, clopper_pearson, group_index

__all__ = [
    "UNDEFINED",
    "GroupedCount",
    "Interval",
    "auc_score_interval",
    "clopper_pearson",
    "differing",
    "flip_rate",
    "group_index",
    "paired_accuracy_difference",
    "paired_difference",
    "union",
    "wilson",
    "without_nan",
]

UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))
"""The interval of a metric that is not defined."""


def wilson(k: float, n: float, level: float = 0.95) -> Interval:
    """Score interval of a proportion (Wilson, JASA 22:209, 1927).

    Args:
        k: successes, 0 to ``n``; may be fractional.
        n: trials; may be fractional.
        level: confidence, between 0 and 1.

    Raises:
        DataError: counts or level out of range.
    """
    check_counts(k, n, level)
    p, z2 = k / n, _normal_quantile(level) ** 2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (p * (1 - p) + z2 / (4 * n)) / n) / (1 + z2 / n)
    return Interval(p, float(max(0.0, min(p, middle - half))), float(min(1.0, max(p, middle + half))))


def auc_score_interval(auc: float, positives: float, negatives: float, level: float = 0.95) -> Interval:
    """Score interval of an AUC, of non-zero width at 0 and 1 too.

    It holds the values A with ``|auc - A| <= z sqrt(V(A))``. V is the variance of Hanley and McNeil (Radiology
    143:29, 1982) for exponential scores, with both ``m - 1`` and ``n - 1`` replaced by ``(m + n) / 2 - 1``. This is
    Method 5 of Newcombe, Statistics in Medicine 25:559, 2006.

    Args:
        auc: the estimate, 0–1.
        positives, negatives: independent units of each class, at least 1.
        level: confidence, between 0 and 1.

    Raises:
        DataError: a value out of range.
    """
    if not 0 <= auc <= 1 or positives < 1 or negatives < 1:
        raise DataError(
            "An AUC interval needs an AUC in 0–1 and at least one unit of each class. "
            f"Received: auc={auc}, positives={positives}, negatives={negatives}."
        )
    z2, extra = _normal_quantile(level) ** 2, (positives + negatives) / 2 - 1

    def excess(a: float) -> float:
        spread = 1 + extra * ((1 - a) / (2 - a) + a / (1 + a))
        return (auc - a) ** 2 - z2 * a * (1 - a) * spread / (positives * negatives)

    # Between the estimate, where the excess is negative, and each end of [0, 1], where it is not.
    low = float(brentq(excess, 0.0, auc)) if 0 < auc < 1 else _far_root(excess, auc)
    high = float(brentq(excess, auc, 1.0)) if 0 < auc < 1 else _far_root(excess, auc)
    return Interval(auc, min(low, auc), max(high, auc))


def paired_difference(only_a: float, only_b: float, n: float, level: float = 0.95) -> Interval:
    """Score interval of a difference of paired proportions, b - a (Tango, Statistics in Medicine 17:891, 1998).

    Equations (24)–(26) of the paper: the score test of every difference d, with the restricted maximum-likelihood
    estimate of the discordant cell, is inverted numerically.

    Args:
        only_a: pairs in which only a succeeds.
        only_b: pairs in which only b succeeds.
        n: all pairs.
        level: confidence, between 0 and 1.

    Raises:
        DataError: counts or level out of range.
    """
    check_counts(only_a + only_b, n, level)
    z, estimate = _normal_quantile(level), (only_b - only_a) / n

    def excess(d: float) -> float:
        linear = (2 * n - only_b + only_a) * d - only_a - only_b
        root = np.sqrt(max(0.0, linear**2 + 8 * n * only_a * d * (1 - d)))
        cell = (root - linear) / (4 * n)
        return float((only_b - only_a - n * d) ** 2 - z**2 * n * (2 * cell + d * (1 - d)))

    return Interval(estimate, _limit(excess, estimate, -1.0, z**2 / n), _limit(excess, estimate, 1.0, z**2 / n))


def paired_accuracy_difference(
    correct_a: ArrayLike, correct_b: ArrayLike, groups: Sequence[str] | None, level: float = 0.95
) -> Interval:
    """Accuracy of b minus accuracy of a on the same images, two bool arrays (N,).

    `paired_difference`, with the effective number of independent images as ``n`` (`edge_runtime.proportion`).

    Args:
        correct_a, correct_b: whether each image is classified correctly.
        groups: N names of patients or source images; None: each image is its own.
        level: confidence, between 0 and 1.

    Raises:
        DataError: no images, or different lengths.
    """
    a, b = _paired_bools(correct_a, correct_b)
    size = GroupedCount.of(a != b, groups).effective_size
    only_a, only_b = (float(np.mean(one & ~other)) * size for one, other in ((a, b), (b, a)))
    return paired_difference(only_a, only_b, size, level)


def differing(decision_a: ArrayLike, decision_b: ArrayLike, groups: Sequence[str] | None) -> GroupedCount:
    """Images on which two bool or 0/1 arrays (N,) of decisions differ, counted by group.

    Raises:
        DataError: no images, or different lengths.
    """
    a, b = _paired_bools(decision_a, decision_b)
    return GroupedCount.of(a != b, groups)


def flip_rate(
    decision_a: ArrayLike, decision_b: ArrayLike, groups: Sequence[str] | None, level: float = 0.95
) -> Interval:
    """Share of images on which decisions differ, with its exact interval by group; see `differing`."""
    return differing(decision_a, decision_b, groups).interval(level)


def union(interval: Interval, other: Interval) -> Interval:
    """The first interval, widened until it holds the limits of the second and its own value."""
    return Interval(
        interval.value,
        min(interval.value, interval.low, other.low),
        max(interval.value, interval.high, other.high),
    )


def _paired_bools(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(a), np.asarray(b)
    if first.ndim != 1 or first.shape != second.shape or first.size == 0:
        raise DataError(
            "Two paired series must have the same shape (N,), N at least 1. "
            f"Received: {first.shape} and {second.shape}."
        )
    return first.astype(bool), second.astype(bool)


def _normal_quantile(level: float) -> float:
    return float(norm.ppf(0.5 + level / 2))


def _far_root(excess: Callable[[float], float], end: float) -> float:
    """The inner root of a function that is zero at ``end`` (0 or 1), negative next to it, then positive."""
    return float(brentq(excess, abs(end - 1e-9), 1 - end))


def _limit(excess: Callable[[float], float], estimate: float, end: float, step: float) -> float:
    """The root of ``excess`` between the estimate and ``end``; ``end`` itself if the estimate lies there."""
    if abs(end - estimate) < 1e-12:
        return end
    # Without discordant pairs the excess is zero at the estimate itself: start a little further.
    start = estimate + np.sign(end - estimate) * min(1e-6 * step, abs(end - estimate) / 2)
    return float(brentq(excess, start, end))


def without_nan(value: Any) -> Any:
    """A copy of JSON-like data with None for every NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
