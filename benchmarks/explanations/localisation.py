"""Compare maps with lesion masks, with chance, and with a map that ignores the image (the centre prior)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoedge.benchmarks.explanations.metrics import THRESHOLDS, Float, Place, centre_prior, mean_interval, place
from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.explain.gradcam import heat_map
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.imaging.masks import read_mask
from sonoedge.edge_runtime.types import Float32Array
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.evaluation.intervals import Interval

CENTRE = "centre prior"


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
        raise DataError(f"No image in {dataset.root.name} has a lesion mask: localisation cannot be measured.")
    return np.array(usable)


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
