"""Activation ranges by any rule, from the values of calibration images at every tensor of a float backbone.

For each image and activation tensor the smallest value, the largest value and a few sampled values are kept, not
only a running summary. So one pass (`export.quantize.activations`) is enough for every range rule, for the share of
values that a range clips, and for the stability of ranges between draws of calibration images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
SAMPLES_PER_IMAGE = 128
"""Values of every tensor kept of each image: 38,400 of 300 images, enough for a share of one in a thousand."""
PERCENTILE = 99.9
"""Percent of the values inside a range by the rule ``percentile``."""
_SHRINK = np.linspace(0.30, 1.0, 36, dtype=np.float32)
_LEAST_SQUARES_SAMPLES = 8192


@dataclass(frozen=True)
class ActivationStatistics:
    """Values of the calibration images at activation tensors.

    Attributes:
        names: T tensors, the image first.
        minima, maxima: float32 (images, T).
        samples: float32 (images, T, `SAMPLES_PER_IMAGE`), evenly spread values of each tensor.
    """

    names: tuple[str, ...]
    minima: Float
    maxima: Float
    samples: Float

    def select(self, images: NDArray[np.int64]) -> ActivationStatistics:
        """Statistics of some of the images, by index."""
        return ActivationStatistics(self.names, self.minima[images], self.maxima[images], self.samples[images])

    def columns(self, names: Mapping[str, str]) -> ActivationStatistics:
        """Statistics of some of the tensors under other names.

        Args:
            names: new name -> old name.
        """
        places = [self.names.index(old) for old in names.values()]
        return ActivationStatistics(
            tuple(names), self.minima[:, places], self.maxima[:, places], self.samples[:, places]
        )

    def beside(self, others: ActivationStatistics) -> ActivationStatistics:
        """Statistics of these tensors, then of other tensors on the same images."""
        return ActivationStatistics(
            (*self.names, *others.names),
            np.concatenate([self.minima, others.minima], axis=1),
            np.concatenate([self.maxima, others.maxima], axis=1),
            np.concatenate([self.samples, others.samples], axis=1),
        )


def activation_ranges(statistics: ActivationStatistics, rules: str | Sequence[str]) -> tuple[Float, Float]:
    """Lower and upper end of every tensor's range, float32 (T,) each.

    Every range holds zero. The range of the image, the first tensor, is always 0–255.

    Args:
        statistics: of T tensors.
        rules: one for all tensors, or one for each. ``average``: mean of the images' extremes. ``extremes``: those
            of all images. ``percentile``: leaves out one value in a thousand. ``mse``: the least squared error of
            rounding and clipping.
    """
    names = statistics.names
    by_tensor = np.full(len(names), rules) if isinstance(rules, str) else np.array(rules)
    low, high = (np.zeros(len(names), np.float32) for _ in range(2))
    for rule in np.unique(by_tensor):
        places = np.flatnonzero(by_tensor == rule)
        low[places], high[places] = _ends(statistics.columns({names[i]: names[i] for i in places}), str(rule))
    # Zero must be representable: it is the padding, and the output of an operator without activity.
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    # By definition: scale 1 and zero point 0, so that pixels are exact.
    low[0], high[0] = 0.0, 255.0
    return low, high


def _ends(statistics: ActivationStatistics, rule: str) -> tuple[Any, Any]:
    if rule == "average":
        return statistics.minima.mean(axis=0), statistics.maxima.mean(axis=0)
    values = statistics.samples.swapaxes(0, 1).reshape(len(statistics.names), -1)
    if rule == "percentile":
        outside = (100 - PERCENTILE) / 2
        return tuple(np.percentile(values, (outside, 100 - outside), axis=1))
    low, high = statistics.minima.min(axis=0), statistics.maxima.max(axis=0)
    return _least_squares(values, low, high) if rule == "mse" else (low, high)


def clipped_share(statistics: ActivationStatistics, low: Float, high: Float) -> Float:
    """Share of the sampled values outside a range, by tensor, float32 (T,), 0–1.

    Args:
        statistics: of T tensors.
        low, high: ends of the ranges, (T,).
    """
    outside = (statistics.samples < low[:, None]) | (statistics.samples > high[:, None])
    return outside.mean(axis=(0, 2)).astype(np.float32)


def _least_squares(values: Float, low: Float, high: Float) -> tuple[Any, Any]:
    """Shrink both ends of each range by the factor with the least squared error of 8-bit rounding and clipping."""
    values = values[:, :: max(1, values.shape[1] // _LEAST_SQUARES_SAMPLES)]
    best = np.full(len(values), np.inf)
    factor = np.ones(len(values))
    low, high = np.minimum(low, 0).astype(np.float32), np.maximum(high, 0).astype(np.float32)
    for shrink in _SHRINK:
        scale = np.maximum((high - low) * shrink / 255, 1e-12)[:, None]
        zero = np.rint(-low[:, None] * shrink / scale)
        rounded = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
        error = np.square(rounded - values).mean(axis=1)
        better = error < best
        best, factor = np.where(better, error, best), np.where(better, shrink, factor)
    return low * factor, high * factor
