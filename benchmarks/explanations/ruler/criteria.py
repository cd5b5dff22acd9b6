"""What is measured of one map of one image. Each function names its source."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sonoedge.benchmarks.explanations.faithfulness import area_under, heat_order, perturbation_curves
from sonoedge.benchmarks.explanations.localisation import place
from sonoedge.benchmarks.explanations.ruler.road import road
from sonoedge.edge_runtime.explain.gradcam import heat_map, stretch
from sonoedge.edge_runtime.types import Float32Array

GRID = 24
"""Maps of all methods are compared with each other on a grid of so many cells a side."""


@dataclass(frozen=True)
class Criterion:
    """One criterion. ``better`` is 1 if high is good, -1 if low is good, 0 if neither is."""

    name: str
    title: str
    better: int


CRITERIA = (
    Criterion("insertion", "insertion", 1),
    Criterion("deletion", "deletion", -1),
    Criterion("road", "ROAD", 1),
    Criterion("pointing", "pointing game", 1),
    Criterion("mass", "relevance mass", 1),
    Criterion("rank", "relevance rank", 1),
    Criterion("sparseness", "sparseness", 0),
    Criterion("entropy", "entropy", 0),
    Criterion("sanity", "like a random head's", -1),
)


def on_grid(values: Float32Array) -> Float32Array:
    """A signed map (h, w) on the common grid, float32 (24, 24)."""
    return stretch(values[:, :, None], (GRID, GRID))[:, :, 0]


def faithful(score: Callable[[Float32Array], float], image: Float32Array, values: Float32Array) -> dict[str, float]:
    """Insertion, deletion and ROAD.

    Args:
        score: probability of the explained class for a model input (1, H, W, 3).
        image: the model input (H, W, 3).
        values: signed map (h, w).
    """
    size = image.shape[0], image.shape[1]
    picture = Image.fromarray(image.astype(np.uint8)).filter(ImageFilter.GaussianBlur(size[1] / 20))
    order = heat_order(values, size)
    curves = perturbation_curves(score, image[None], np.asarray(picture, np.float32)[None], order, steps=8)
    return {
        "insertion": area_under(curves.insertion),
        "deletion": area_under(curves.deletion),
        "road": road(score, image[None], order),
    }


def located(values: Float32Array, mask: NDArray[np.bool_] | None) -> dict[str, float]:
    """Peak, mass and rank of the map as it is shown, >= 0, in a lesion mask of the image's size; NaN without.

    Mass and rank: Arras et al., CLEVR-XAI, Information Fusion 81, 2022: share of the heat inside the mask, and
    share of the n hottest pixels inside it, n being the pixels of the mask.
    """
    if mask is None:
        return dict.fromkeys(("pointing", "mass", "rank"), math.nan)
    heat = heat_map(np.maximum(values, 0.0), (mask.shape[0], mask.shape[1]))
    found = place(heat, mask)
    return {"pointing": found.pointing, "mass": found.energy, "rank": rank_accuracy(heat, mask)}


def rank_accuracy(heat: Float32Array, mask: NDArray[np.bool_]) -> float:
    """Share of the hottest pixels inside the mask, as many as it has; 0 for a zero map."""
    if not heat.any():
        return 0.0
    count = int(mask.sum())
    hottest = np.argpartition(heat.ravel(), heat.size - count)[heat.size - count :]
    return float(mask.ravel()[hottest].mean())


def complexity(values: Float32Array) -> dict[str, float]:
    """Sparseness and entropy of the map >= 0 on the common grid; NaN for a zero map.

    Sparseness is the Gini index, 0 for equal cells, near 1 for one hot cell (Chalasani et al., ICML 2020). Entropy
    is that of the cells' shares of the heat, in nats (Bhatt et al., IJCAI 2020): low is simple.
    """
    cells = np.sort(np.maximum(on_grid(values), 0.0).ravel().astype(np.float64))
    total = float(cells.sum())
    if not total > 0:
        return {"sparseness": math.nan, "entropy": math.nan}
    ranks = np.arange(1, cells.size + 1)
    gini = float(((2 * ranks - cells.size - 1) * cells).sum() / (cells.size * total))
    shares = cells[cells > 0] / total
    return {"sparseness": gini, "entropy": float(-(shares * np.log(shares)).sum())}
