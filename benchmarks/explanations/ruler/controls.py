"""Two maps that know nothing of the model. What does not beat them explains nothing."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, sobel

from sonoedge.benchmarks.explanations.localisation import CENTRE, centre_prior
from sonoedge.edge_runtime.types import Float32Array

EDGES = "edge detector"
CONTROLS = (CENTRE, EDGES)


def control_maps(image: Float32Array) -> dict[str, Float32Array]:
    """The centre prior and the edges of a model input (H, W, 3), each float32 (H, W), >= 0, by name."""
    return {CENTRE: centre_prior((image.shape[0], image.shape[1])), EDGES: edges(image)}


def edges(image: Float32Array) -> Float32Array:
    """Strength of the grey values' gradient (Sobel), smoothed: as in Adebayo et al., NeurIPS 2018."""
    grey = gaussian_filter(image.mean(axis=2).astype(np.float64), image.shape[0] / 100)
    strength = np.hypot(sobel(grey, axis=0), sobel(grey, axis=1))
    return gaussian_filter(strength, image.shape[0] / 50).astype(np.float32)
