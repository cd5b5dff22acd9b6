"""Maps against lesion masks: where the heat lies, beside chance and beside a map that knows no image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.explanation_metrics import THRESHOLDS, Place, centre_prior, mean_interval, place
from edge_runtime.backends import Float32Array
from edge_runtime.errors import DataError
from edge_runtime.explain import heat_map
from edge_runtime.image import read_image
from edge_runtime.masks import read_mask
from train.data import Dataset, Sample
from train.intervals import Interval


@dataclass(frozen=True)
class Localisation:
    """One method against the masks; means over the images with 95 % bootstrap intervals by group."""

    method: str
    subset: str
    images: int
    zero_maps: int
    threshold: float
    metrics: Mapping[str, Interval]


def with_masks(dataset: Dataset) -> NDArray[np.int64]:
    """Indices of the images whose mask has an inside and an outside.

    Raises:
        DataError: there are none.
    """
    usable = [i for i, sample in enumerate(dataset.samples) if _mask(sample) is not None]
    if not usable:
        raise DataError(f"No image in {dataset.root.name} has a lesion mask: localisation cannot be measured.")
    return np.array(usable)


def places(cams: Float32Array, dataset: Dataset) -> list[Place]:
    """Where maps >= 0 (N, H, W) lie; every image must have a mask."""
    found = []
    for cam, sample in zip(cams, dataset.samples, strict=True):
        mask = _mask(sample)
        assert mask is not None
        found.append(place(heat_map(cam, (mask.shape[0], mask.shape[1])), mask))
    return found


def priors(dataset: Dataset, grid: tuple[int, int]) -> Float32Array:
    """`centre_prior` for every image, (N, H, W): on a grid as fine as the maps, to be stretched like them."""
    return np.repeat(centre_prior(grid)[None], len(dataset), axis=0)


def localisation(
    method: str, subset: str, found: Sequence[Place], dataset: Dataset, threshold: int
) -> Localisation:
    """Summarise; ``threshold`` is an index into `THRESHOLDS`, chosen on other images."""
    columns = {
        "lesion": [p.lesion for p in found],
        "pointing": [p.pointing for p in found],
        "energy": [p.energy for p in found],
        "iou": [float(p.iou[threshold]) for p in found],
        "focus": [p.focus for p in found],
        "precision": [p.precision for p in found],
        "noise": [p.noise for p in found],
    }
    return Localisation(
        method=method,
        subset=subset,
        images=len(found),
        zero_maps=sum(p.focus == 0 for p in found),
        threshold=float(THRESHOLDS[threshold]),
        metrics={name: mean_interval(values, dataset.y, dataset.groups) for name, values in columns.items()},
    )


def localisations(
    methods: Mapping[str, tuple[list[Place], int]], dataset: Dataset, name: str
) -> list[Localisation]:
    """Every method on all images and on each class: its places, and its threshold index."""
    rows = []
    for method, (found, threshold) in methods.items():
        parts = {name: np.arange(len(dataset))}
        parts |= {f"{name}, {label}": np.flatnonzero(dataset.y == k) for k, label in enumerate(dataset.labels)}
        for subset, indices in parts.items():
            chosen = dataset.select(indices)
            if len(chosen):
                rows.append(localisation(method, subset, [found[i] for i in indices], chosen, threshold))
    return rows


def _mask(sample: Sample) -> NDArray[np.bool_] | None:
    """The lesion mask at the image's size; None where it is missing, empty or full."""
    if sample.mask_path is None:
        return None
    height, width, _ = read_image(sample.path).shape
    mask = read_mask(sample.mask_path, (height, width))
    return mask if mask.any() and not mask.all() else None
