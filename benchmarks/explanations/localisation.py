"""Compare maps with lesion masks, with chance, and with a map that ignores the image (the centre prior).

Localisation is measured on the map as it is shown: >= 0, stretched to the image, with its peak at 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.explain.gradcam import heat_map
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.imaging.masks import read_mask
from sonoedge.edge_runtime.types import Float32Array
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.evaluation.bootstrap import mean_interval
from sonoedge.train.evaluation.intervals import Interval

CENTRE = "centre prior"
Float = NDArray[np.float64]
THRESHOLDS: Float = np.round(np.arange(0.05, 1.0, 0.05), 2)
"""Shares of the peak above which a region is cut out of a map; one is chosen on validation images."""
HOT = 0.5
"""The share of the peak from which a map counts as hot."""


@dataclass(frozen=True)
class Localisation:
    """One method against the masks; means over the images with 95 % bootstrap intervals by group.

    ``versus_centre`` holds the mean differences from the centre prior on the same images; empty for the prior.
    """

    method: str
    subset: str
    images: int
    zero_maps: int
    threshold: float
    metrics: Mapping[str, Interval]
    versus_centre: Mapping[str, Interval]


def with_masks(dataset: Dataset) -> NDArray[np.int64]:
    """Indices of the images whose mask has an inside and an outside.

    Raises:
        DataError: there are none.
    """
    usable = [i for i, sample in enumerate(dataset.samples) if _mask(sample) is not None]
    if not usable:
        raise DataError(f"No image in {dataset.name} has a lesion mask: localisation cannot be measured.")
    return np.array(usable)


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


def places(cams: Float32Array, dataset: Dataset) -> list[Place]:
    """Compare maps >= 0 (N, H, W) with the masks of N images; every image must have a mask."""
    found = []
    for cam, sample in zip(cams, dataset.samples, strict=True):
        mask = _mask(sample)
        assert mask is not None
        found.append(place(heat_map(cam, (mask.shape[0], mask.shape[1])), mask))
    return found


def priors(dataset: Dataset, grid: tuple[int, int]) -> Float32Array:
    """`centre_prior` for each of N images, (N, H, W), on the grid (H, W) of the maps; it is stretched like them."""
    return np.repeat(centre_prior(grid)[None], len(dataset), axis=0)


def localisations(
    methods: Mapping[str, tuple[list[Place], int]], dataset: Dataset, name: str
) -> list[Localisation]:
    """Every method on all images and on each class.

    Args:
        methods: by name, the places of all images, and an index into `THRESHOLDS` that was chosen on other images;
            must hold `CENTRE`.
        dataset: the images.
        name: of the set of images.
    """
    parts = {name: np.arange(len(dataset))}
    parts |= {f"{name}, {label}": np.flatnonzero(dataset.y == k) for k, label in enumerate(dataset.labels)}
    baseline = _columns(*methods[CENTRE])
    rows = []
    for method, (found, threshold) in methods.items():
        columns = _columns(found, threshold)
        for subset, indices in parts.items():
            if not len(indices):
                continue
            part = dataset.select(indices)

            def interval(values: Float, part: Dataset = part, indices: NDArray[np.int64] = indices) -> Interval:
                return mean_interval(values[indices], part.y, part.groups)

            rows.append(
                Localisation(
                    method=method,
                    subset=subset,
                    images=len(indices),
                    zero_maps=int((columns["focus"][indices] == 0).sum()),
                    threshold=float(THRESHOLDS[threshold]),
                    metrics={key: interval(values) for key, values in columns.items()},
                    versus_centre={
                        key: interval(columns[key] - baseline[key])
                        for key in ("pointing", "energy", "iou", "precision", "noise")
                        if method != CENTRE
                    },
                )
            )
    return rows


def _columns(found: Sequence[Place], threshold: int) -> dict[str, Float]:
    names = ("lesion", "pointing", "energy", "focus", "precision", "noise")
    columns = {name: np.array([getattr(place, name) for place in found]) for name in names}
    return {**columns, "iou": np.array([place.iou[threshold] for place in found])}


def _mask(sample: Sample) -> NDArray[np.bool_] | None:
    """The lesion mask at the image's size; None if it is missing, empty or full."""
    if sample.mask_path is None:
        return None
    height, width, _ = read_image(sample.path).shape
    mask = read_mask(sample.mask_path, (height, width))
    return mask if mask.any() and not mask.all() else None
