"""LIME: a linear model of the logit over superpixels that are hidden at random.

Ribeiro et al., "Why Should I Trust You?", KDD 2016, equation 1 and algorithm 1; `lime.lime_image` draws the samples,
weighs them by their cosine distance and fits the ridge regression. Superpixels are SLIC's (Achanta et al., TPAMI 2012) on
the smoothed image, so that speckle does not cut them. A hidden superpixel has the image's mean colour.

Cost: up to 500 calls. Needs the extra ``xai``: it is for a workstation, not for the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.explain.methods.budget import Budget
from sonoedge.edge_runtime.explain.methods.probe import Probe
from sonoedge.edge_runtime.types import Float32Array

SAMPLES = 500
_SUPERPIXELS = 80
_CHUNK = 25
"""Samples between two looks at the clock."""


def values(probe: Probe, budget: Budget, seed: int) -> Float32Array:
    """Each pixel's value is the weight of its superpixel, in units of the logit: float32 (height, width)."""
    from lime.lime_image import LimeImageExplainer
    from skimage.segmentation import slic
    picture = probe.image.astype(np.float64)
    segments: NDArray[np.int64] = slic(picture / 255.0, n_segments=_SUPERPIXELS, compactness=10, sigma=2, start_label=0)
    explainer = LimeImageExplainer(random_state=seed)
    hidden = np.broadcast_to(probe.hidden.astype(np.float64), picture.shape)

    def logits(images: NDArray[np.float64], **_: Any) -> NDArray[np.float64]:
        # The first sample of each chunk is the whole image, whose logit is known.
        return np.array([[probe.logit], *([probe.logit_of(image.astype(np.float32))] for image in images[1:])])

    data: list[NDArray[np.int64]] = []
    found: list[NDArray[np.float64]] = []

    def weights() -> NDArray[np.float64]:
        return _fitted(explainer, np.concatenate(data), np.concatenate(found))

    done = 0
    while budget.more(done, SAMPLES, weights if data else None):
        rows, labels = explainer.data_labels(
            picture, hidden, segments, logits, 1 + _CHUNK, batch_size=1 + _CHUNK, **_quiet(explainer)
        )
        first = 1 if data else 0  # the whole image counts once
        data.append(rows[first:])
        found.append(labels[first:])
        done += _CHUNK
    if not data:
        return np.zeros(probe.size, np.float32)
    return weights()[segments].astype(np.float32)


def _quiet(explainer: Any) -> dict[str, Any]:
    """The released version shows a bar unless told not to; the newer one has none."""
    names = explainer.data_labels.__code__.co_varnames[: explainer.data_labels.__code__.co_argcount]
    return {"progress_bar": False} if "progress_bar" in names else {}


def _fitted(explainer: Any, data: NDArray[np.int64], logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight of each superpixel."""
    from sklearn.metrics import pairwise_distances

    distances = pairwise_distances(data, data[:1], metric="cosine").ravel()
    count = data.shape[1]
    _, pairs, *_ = explainer.base.explain_instance_with_data(
        data, logits, distances, 0, count, feature_selection="none"
    )
    weights = np.zeros(count)
    for region, weight in pairs:
        weights[region] = weight
    return weights
