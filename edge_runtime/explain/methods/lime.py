"""LIME: a linear model of the logit over superpixels that are hidden at random.

Ribeiro et al., "Why Should I Trust You?", KDD 2016, equation 1 and algorithm 1. Samples are drawn as
`lime.lime_image` draws them; lime weighs them by their cosine distance and fits the ridge regression. Superpixels
are SLIC's (Achanta et al., TPAMI 2012) on the smoothed image, so that speckle does not cut them. A hidden
superpixel has the image's mean colour.

Cost: up to 300 calls. Needs the extra ``xai``: it is for a workstation, not for the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.explain.methods.budget import Budget
from sonoedge.edge_runtime.explain.methods.probe import Probe
from sonoedge.edge_runtime.types import Float32Array

SAMPLES = 300
_SUPERPIXELS = 60


def values(probe: Probe, budget: Budget, seed: int) -> Float32Array:
    """Each pixel's value is the weight of its superpixel, in units of the logit: float32 (height, width)."""
    from lime.lime_image import LimeImageExplainer

    segments = superpixels(probe.image)
    count = int(segments.max()) + 1
    explainer = LimeImageExplainer(random_state=seed)
    data: NDArray[np.int64] = explainer.random_state.randint(0, 2, (SAMPLES + 1) * count).reshape(-1, count)
    data[0] = 1  # the first sample is the whole image, whose logit is known
    logits = [probe.logit]

    def weights() -> NDArray[np.float64]:
        return _fitted(explainer, data[: len(logits)], np.array(logits))

    while budget.more(len(logits) - 1, SAMPLES, weights if len(logits) > count else None):
        logits.append(probe.logit_where(data[len(logits)][segments]))
    if len(logits) == 1:
        return np.zeros(probe.size, np.float32)
    return weights()[segments].astype(np.float32)


def superpixels(image: Float32Array) -> NDArray[np.int64]:
    """The number of the superpixel of each pixel of an image (height, width, 3), from 0 without a gap."""
    from skimage.segmentation import slic

    found = slic(image.astype(np.float64) / 255.0, n_segments=_SUPERPIXELS, compactness=10, sigma=2, start_label=0)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape)


def _fitted(explainer: Any, data: NDArray[np.int64], logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight of each superpixel."""
    count = data.shape[1]
    # The cosine of a sample with the whole image, a vector of ones; a sample that shows nothing has none.
    distances = 1.0 - np.sqrt(data.sum(axis=1) / count)
    _, pairs, *_ = explainer.base.explain_instance_with_data(
        data, logits[:, None], distances, 0, count, feature_selection="none"
    )
    weights = np.zeros(count)
    for region, weight in pairs:
        weights[region] = weight
    return weights
