"""Exact interval of a proportion, also if images come in groups. Python and NumPy only: the device needs it too.

Images of one group (a patient, copies of a source image) are not independent. They count as if they were copies of
one another: N images in groups of n_g images count as N² / sum n_g² independent images (Kish, Survey Sampling,
1965, section 8.2). If all groups are equally large, this is the number of groups. If no image or every image has
the event, the number of groups is taken. A design effect estimated from few events would be a guess: in a
simulation with large and small groups it covers 84 % instead of 95 %
(``tests/train/evaluation/test_metrics.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sonoedge.edge_runtime.errors import DataError

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
SLACK = 1e-12
"""Rounding may put a figure this far beyond its limit."""
_MOST_MISSING = 1 << 24
_TINY = 1e-300


@dataclass(frozen=True)
class Interval:
    """A point estimate and its confidence limits; all three are NaN where the quantity is undefined."""

    value: float
    low: float
    high: float


def clopper_pearson(k: float, n: float, level: float = 0.95) -> Interval:
    """Exact interval of a proportion (Clopper and Pearson, Biometrika 26:404, 1934), from quantiles of the beta
    distribution, so that an effective sample size may be fractional.

    Args:
        k: successes, 0–n.
        n: trials, above 0.
        level: confidence, in (0, 1).

    Raises:
        DataError: counts or level out of range.
    """
    check_counts(k, n, level)
    k, tail = min(k, n), (1 - level) / 2
    low = 0.0 if k <= 0 else _quantile(lambda x: _beta_cdf(x, k, n - k + 1), tail)
    high = 1.0 if k >= n else _quantile(lambda x: _beta_cdf(x, k + 1, n - k), 1 - tail)
    return Interval(k / n, min(low, k / n), max(high, k / n))


def group_index(groups: Sequence[str] | None, count: int) -> NDArray[np.int64]:
    """Number the groups from 0: int64 (N,), the group of each image; without groups, each image is its own.

    Raises:
        DataError: ``groups`` has not one entry per image.
    """
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise DataError(f"There must be one group per image. Received: {len(groups)} groups, {count} images.")
    return np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class GroupedCount:
    """Events among images in groups, as the sums that an interval needs; counts without common groups can be added.

    Attributes:
        events, images, groups: numbers of each.
        squares: sum over groups of (images)².
    """

    events: int
    images: int
    groups: int
    squares: int

    @classmethod
    def of(cls, events: ArrayLike, groups: Sequence[str] | None) -> GroupedCount:
        """Count bool (N,) by group.

        Raises:
            DataError: no images, or not one group for each.
        """
        happened = np.asarray(events, bool)
        if happened.ndim != 1 or not happened.size:
            raise DataError(f"Events must have the shape (N,), N at least 1. Received: {happened.shape}.")
        images = np.bincount(group_index(groups, happened.size))
        return cls(int(happened.sum()), int(images.sum()), len(images), int((images**2).sum()))

    def __add__(self, other: GroupedCount) -> GroupedCount:
        """The count of both; no group may be in both."""
        return GroupedCount(
            self.events + other.events,
            self.images + other.images,
            self.groups + other.groups,
            self.squares + other.squares,
        )

    @property
    def share(self) -> float:
        """The share of images with the event, 0–1."""
        return self.events / self.images

    @property
    def effective_size(self) -> float:
        """The number of independent images that would tell as much about the share (see this module)."""
        none_or_all = self.events in (0, self.images)
        return float(self.groups) if none_or_all else self.images**2 / self.squares

    def interval(self, level: float = 0.95) -> Interval:
        """The share with its exact interval."""
        size = self.effective_size
        found = clopper_pearson(self.share * size, size, level)
        return Interval(self.share, found.low, found.high)

    def verdict(self, limit: float) -> Verdict:
        """PASS if the whole interval is within the limit, FAIL if it is outside, INCONCLUSIVE if it crosses it."""
        return verdict_of(self.interval(), limit)

    def missing(self, limit: float) -> int | None:
        """How many more groups make the verdict PASS, if each has one image without the event.

        None if no number does: the limit is 0, or so small that more than 16 million groups would be needed.
        """

        def passes(more: int) -> bool:
            whole = self + GroupedCount(0, more, more, more)
            if whole.share >= 1:
                return limit >= 1
            size = whole.effective_size
            events = whole.share * size
            # One value of the distribution is faster than the search for its quantile.
            return _beta_cdf(limit + SLACK, events + 1, size - events) >= 0.975

        if passes(0):
            return 0
        top = 1
        while not passes(top):
            top *= 2
            if top > _MOST_MISSING:
                return None
        below = top // 2
        while top - below > 1:
            middle = (top + below) // 2
            below, top = (below, middle) if passes(middle) else (middle, top)
        return top

    def counted_words(self) -> str:
        """The count in words, such as ``0/95 (71 groups) 0.0–5.1 %``."""
        found = self.interval()
        return f"{self.events}/{self.images} ({self.groups} groups) {100 * found.low:.1f}–{100 * found.high:.1f} %"

    def words(self, limit: float) -> str:
        """`counted_words`, the verdict, and how many groups are missing for PASS."""
        return f"{self.counted_words()}, {self.verdict(limit)}{self.missing_words(limit)}"

    def missing_words(self, limit: float) -> str:
        """``, 297 more groups for PASS``; empty unless the verdict is INCONCLUSIVE."""
        verdict = self.verdict(limit)
        if verdict != "INCONCLUSIVE":
            return ""
        more = self.missing(limit)
        return (
            f", no number of images proves {100 * limit:g} %" if more is None else f", {more} more groups for PASS"
        )


def verdict_of(interval: Interval, limit: float) -> Verdict:
    """The verdict on a figure that may be at most ``limit``; INCONCLUSIVE if the interval is undefined."""
    if interval.high <= limit + SLACK:
        return "PASS"
    return "FAIL" if interval.low > limit + SLACK else "INCONCLUSIVE"


def check_counts(k: float, n: float, level: float) -> None:
    """Raise `DataError` unless 0 <= k <= n, 0 < n and 0 < level < 1."""
    if not 0 < n < float("inf") or not 0 <= k <= n * (1 + 1e-12):
        raise DataError(f"A proportion needs 0 <= k <= n and n > 0. Received: k={k}, n={n}.")
    if not 0 < level < 1:
        raise DataError(f"A confidence level lies between 0 and 1. Received: {level}.")


def _quantile(cdf: Callable[[float], float], probability: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if cdf(middle) < probability else (low, middle)
    return (low + high) / 2


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Regularized incomplete beta function (Press et al., Numerical Recipes, 3rd ed., section 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d = 1 / _nonzero(1 + step * d)
            c = _nonzero(1 + step / c)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
