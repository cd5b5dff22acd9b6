"""Score-CAM on the head alone: which feature map, let through by itself, raises the logit?

Wang et al., Score-CAM, CVPR Workshops 2020. There, each map A_k is stretched to the image, scaled to 0–1 as H_k,
and multiplied with the *image*; the model runs once for each map. Its weight is the increase of the score over a
baseline, ``f(X * H_k) - f(X_b)`` (definitions 2 and 3), and the map is ``ReLU(sum_k weight_k A_k)``.

Here H_k is multiplied with the *feature maps* of all branches, and the head pools them: ``head(A * H_k) -
head(0)``. The backbone does not run again. That is another question than the paper's: what a region contributes
through the receptive fields of its cells, not what the image shows there. Weights are the increases themselves,
without the softmax of the authors' code: it makes every weight positive and the maps of two classes alike.

Cost: no call of the backbone, one call of the head for each channel.
"""

from __future__ import annotations

import numpy as np

from sonoedge.edge_runtime.explain.gradcam import stretch
from sonoedge.edge_runtime.explain.methods.budget import Budget
from sonoedge.edge_runtime.explain.methods.probe import Probe
from sonoedge.edge_runtime.types import Float32Array


def values(probe: Probe, budget: Budget, seed: int) -> Float32Array:
    """The map before the ReLU, float32 (h, w) on the largest grid of the branches; ``seed`` is not used."""
    maps = probe.maps
    grid = max(array.shape[1] for array in maps.values()), max(array.shape[2] for array in maps.values())
    channels = [(name, k) for name, array in maps.items() for k in range(array.shape[3])]
    base = probe.logit_of_maps({name: np.zeros_like(array) for name, array in maps.items()})
    total = np.zeros(grid, np.float32)
    for done, (name, k) in enumerate(channels):
        # A sum over channels that were not asked yet cannot be called stable: only the time stops it.
        if not budget.more(done, len(channels)):
            return total
        channel = maps[name][0, :, :, k : k + 1]
        low, high = float(channel.min()), float(channel.max())
        if high > low:
            weight = probe.logit_of_maps(_through((channel - low) / (high - low), maps)) - base
            total = total + np.float32(weight) * stretch(channel, grid)[:, :, 0]
    budget.more(len(channels), len(channels))
    return total


def _through(mask: Float32Array, maps: dict[str, Float32Array]) -> dict[str, Float32Array]:
    """All maps seen through a mask (h, w, 1), which is stretched to the grid of each branch."""
    return {
        name: (array * stretch(mask, (array.shape[1], array.shape[2]))[None]).astype(np.float32)
        for name, array in maps.items()
    }
