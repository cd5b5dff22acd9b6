"""How alike two maps are, and how a map lies relative to a lesion. Maps are >= 0 unless they are called signed.

Localisation is measured on the map as it is shown: stretched to the image, with its peak at 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from sonoedge.edge_runtime.types import Float32Array
from sonoedge.train.evaluation.bootstrap import percentile_interval, resamples
from sonoedge.train.evaluation.intervals import UNDEFINED, Interval, group_index

Float = NDArray[np.float64]
THRESHOLDS: Float = np.round(np.arange(0.05, 1.0, 0.05), 2)
"""Shares of the peak above which a region is cut out of a map; one is chosen on validation images."""
TOP_SHARE = 0.2
"""The share of cells that counts as the top region of a map."""
HOT = 0.5
"""The share of the peak from which a map counts as hot."""
_RESAMPLES = 2000


def spearman(a: Float32Array, b: Float32Array) -> float:
    """Rank correlation of two maps of one shape; NaN if one map is constant."""
    x, y = rankdata(a.ravel()), rankdata(b.ravel())
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def top_region_iou(a: Float32Array, b: Float32Array, share: float = TOP_SHARE) -> float:
    """Intersection over union of the hottest cells of two maps, ``share`` of all cells of each."""
    count = max(1, round(share * a.size))
    first, second = (set(np.argsort(-m.ravel(), kind="stable")[:count].tolist()) for m in (a, b))
    return len(first & second) / len(first | second)


@dataclass(frozen=True)
class Place:
    """How one map lies relative to one lesion.

    Attributes:
        lesion: share of the image inside the mask.
        pointing: 1.0 if the peak is inside the mask, else 0.0 (Zhang et al., IJCV 2018), without a margin.
        energy: share of the map's sum inside the mask (Wang et al., Score-CAM, CVPRW 2020).
        focus: share of the image that is hot, at least `HOT` of the peak; small is focused.
        precision: share of the hot area inside the mask.
        noise: mean of the map outside the mask.
        iou: for each of `THRESHOLDS`, intersection over union of the region above the threshold and the mask.

    A zero map points nowhere: pointing, energy, focus, precision and iou are 0.
    """

    lesion: float
    pointing: float
    energy: float
    focus: float
    precision: float
    noise: float
    iou: Float


def place(heat: Float32Array, mask: NDArray[np.bool_]) -> Place:
    """Compare a heat map (H, W), peak 1 or all zero, with a mask (H, W) that has an inside and an outside."""
    lesion = float(mask.mean())
    if not heat.any():
        return Place(lesion, 0.0, 0.0, 0.0, 0.0, 0.0, np.zeros(THRESHOLDS.size))
    inside = heat[mask]
    total = float(heat.sum(dtype=np.float64))
    hot = heat >= HOT
    # Sort once, then count for each threshold the pixels at or above it, in all and inside.
    above = heat.size - np.searchsorted(np.sort(heat, axis=None), THRESHOLDS)
    above_inside = inside.size - np.searchsorted(np.sort(inside), THRESHOLDS)
    return Place(
        lesion=lesion,
        pointing=float(mask.ravel()[int(heat.argmax())]),
        energy=float(inside.sum(dtype=np.float64)) / total,
        focus=float(hot.mean()),
        precision=float((hot & mask).sum() / hot.sum()),
        noise=float(heat[~mask].mean()),
        iou=above_inside / (above + inside.size - above_inside),
    )


def best_threshold(places: Sequence[Place]) -> int:
    """Index into `THRESHOLDS` of the largest mean IoU."""
    return int(np.mean([p.iou for p in places], axis=0).argmax())


def centre_prior(size: tuple[int, int], spread: float = 0.25) -> Float32Array:
    """A Gaussian at the centre, standard deviation ``spread`` of each side; the same for every image."""
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in size)
    return np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2) / spread**2).astype(np.float32)


def mean_interval(
    values: Sequence[float] | Float, y: NDArray[np.int64], groups: Sequence[str], seed: int = 0
) -> Interval:
    """Mean over N images with its 95 % bootstrap interval by group; NaN values are left out.

    Args:
        values: one per image.
        y: labels, 0 or 1, by which the bootstrap is stratified.
        groups: group of each image.
        seed: of the bootstrap.
    """
    array = np.asarray(values, np.float64)
    known = ~np.isnan(array)
    if not known.any():
        return UNDEFINED
    array, labels = array[known], y[known]
    group = group_index([g for g, k in zip(groups, known, strict=True) if k], array.size)
    drawn = []
    for weights in resamples(labels, group, _RESAMPLES, seed):
        with np.errstate(invalid="ignore"):
            drawn.append((weights @ array) / weights.sum(axis=1))
    return percentile_interval(float(array.mean()), np.concatenate(drawn))


@dataclass(frozen=True)
class Curves:
    """Scores of the explained class while pixels are deleted or inserted: ``steps`` + 1 points each."""

    deletion: Float
    insertion: Float


def perturbation_curves(
    score: Callable[[Float32Array], float],
    image: Float32Array,
    blurred: Float32Array,
    order: Float32Array,
    steps: int,
) -> Curves:
    """Deletion and insertion (Petsiuk et al., RISE, BMVC 2018), hottest pixels first.

    Args:
        score: gives the score of a model input (1, H, W, 3).
        image: the model input.
        blurred: the input, blurred; insertion starts with it.
        order: signed map (H, W); only its ranks count.
        steps: number of equal shares of the pixels.

    Deletion replaces pixels by the image's mean colour.
    """
    ranks = rankdata(-order, method="ordinal").reshape(order.shape)
    empty = np.broadcast_to(image.mean(axis=(1, 2), keepdims=True), image.shape)
    deletion, insertion = [], []
    for step in range(steps + 1):
        chosen = (ranks <= step * order.size / steps)[None, :, :, None]
        deletion.append(score(np.where(chosen, empty, image).astype(np.float32)))
        insertion.append(score(np.where(chosen, image, blurred).astype(np.float32)))
    return Curves(np.array(deletion), np.array(insertion))


def area_under(curve: Float) -> float:
    """Mean height of a curve with equal steps (trapezoids)."""
    return float((curve[1:] + curve[:-1]).mean() / 2)
