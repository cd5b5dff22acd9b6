"""Deletion and insertion: does the answer depend on the pixels that the map calls hot?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.stats import rankdata
from tqdm import tqdm

from sonoedge.edge_runtime.explain.gradcam import stretch
from sonoedge.edge_runtime.imaging.image import read_image, to_input
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.types import Float32Array
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.evaluation.bootstrap import mean_interval
from sonoedge.train.evaluation.intervals import Interval
from sonoedge.train.evaluation.metrics import sigmoid


@dataclass(frozen=True)
class Faithfulness:
    """Mean curves and areas for one order of the pixels. Low deletion and high insertion are faithful."""

    method: str
    images: int
    deletion: Interval
    insertion: Interval
    deletion_curve: Sequence[float]
    insertion_curve: Sequence[float]


def faithfulness(
    classifier: Classifier,
    dataset: Dataset,
    orders: Mapping[str, Float32Array],
    positive: NDArray[np.bool_],
    *,
    steps: int = 8,
    progress: bool = False,
) -> list[Faithfulness]:
    """Deletion and insertion, scored by the probability of the decided class.

    Args:
        classifier: gives the probabilities.
        dataset: N images.
        orders: by method, maps (N, H, W) for the decided class; only ranks count.
        positive: the decisions, bool (N,).
        steps: number of equal shares of the pixels.
        progress: show a progress bar.
    """
    size = classifier.input_size
    curves: dict[str, list[Any]] = {name: [] for name in orders}
    bar = tqdm(dataset.samples, desc="deletion and insertion", unit="img", disable=not progress)
    for i, sample in enumerate(bar):
        model_input = to_input(read_image(sample.path), size)
        picture = Image.fromarray(model_input[0].astype(np.uint8)).filter(ImageFilter.GaussianBlur(size[1] / 20))
        blurred = np.asarray(picture, np.float32)[None]
        score = _cached(_probability(classifier, positive=bool(positive[i])))
        for name, maps in orders.items():
            order = heat_order(maps[i], size)
            curves[name].append(perturbation_curves(score, model_input, blurred, order, steps))
    rows = []
    for name, found in curves.items():
        deletion, insertion = (np.stack([getattr(c, kind) for c in found]) for kind in ("deletion", "insertion"))
        rows.append(
            Faithfulness(
                name,
                len(found),
                mean_interval([area_under(c) for c in deletion], dataset.y, dataset.groups),
                mean_interval([area_under(c) for c in insertion], dataset.y, dataset.groups),
                [round(float(v), 4) for v in deletion.mean(axis=0)],
                [round(float(v), 4) for v in insertion.mean(axis=0)],
            )
        )
    return rows


@dataclass(frozen=True)
class Curves:
    """Scores of the explained class while pixels are deleted or inserted: ``steps`` + 1 points each."""

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]


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


def area_under(curve: NDArray[np.float64]) -> float:
    """Mean height of a curve with equal steps (trapezoids)."""
    return float((curve[1:] + curve[:-1]).mean() / 2)


def heat_order(cam: Float32Array, size: tuple[int, int]) -> Float32Array:
    """A signed map (h, w), stretched to the model's input (height, width); its ranks give the order of pixels."""
    return stretch(cam[:, :, None], size)[:, :, 0]


def _probability(classifier: Classifier, *, positive: bool) -> Callable[[Float32Array], float]:
    sign = 1.0 if positive else -1.0
    return lambda model_input: float(sigmoid(sign * classifier.logit(model_input)))


def _cached(score: Callable[[Float32Array], float]) -> Callable[[Float32Array], float]:
    """A score that remembers images: whole and empty images are scored once, not once for each method."""
    known: dict[bytes, float] = {}

    def call(image: Float32Array) -> float:
        key = image.tobytes()
        if key not in known:
            known[key] = score(image)
        return known[key]

    return call
