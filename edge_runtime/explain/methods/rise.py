"""RISE: what do random masks with a high logit have in common?

Petsiuk et al., RISE, BMVC 2018, equation 6: ``S = sum_i f(I * M_i) M_i / (N p)``. Each mask is an 8 x 8 grid of
cells that are shown with probability 1/2, stretched bilinearly and shifted by a part of a cell. Here f is the logit
less its mean over the masks: that takes a constant times the mean mask away, which says nothing and is most of the
noise. A hidden pixel has the image's mean colour, not black.

Cost: up to 500 calls.
"""

from __future__ import annotations

import numpy as np

from sonoedge.edge_runtime.explain.gradcam import stretch
from sonoedge.edge_runtime.explain.methods.budget import Budget
from sonoedge.edge_runtime.explain.methods.occlusion import CELLS
from sonoedge.edge_runtime.explain.methods.probe import Probe
from sonoedge.edge_runtime.types import Float32Array

MASKS = 500
_GRID = 8
_SHOWN = 0.5
_LEAST = 200
"""Before so many masks the ranking is noise, however equal two looks at it are."""


def values(probe: Probe, budget: Budget, seed: int) -> Float32Array:
    """Covariance of the logit with each pixel's visibility over ``p``, float32 (height, width)."""
    rng = np.random.default_rng(seed)
    logits = 0.0
    masks, products = np.zeros(probe.size, np.float32), np.zeros(probe.size, np.float32)
    done = 0

    def current() -> Float32Array:
        count = max(done, 1)
        return ((products - logits / count * masks) / (count * _SHOWN)).astype(np.float32)

    def regions() -> Float32Array:
        return stretch(current()[:, :, None], (CELLS, CELLS))[:, :, 0]

    while budget.more(done, MASKS, regions if done >= _LEAST else None):
        mask = _mask(rng, probe.size)
        logit = probe.logit_where(mask)
        logits += logit
        masks += mask
        products += np.float32(logit) * mask
        done += 1
    return current()


def _mask(rng: np.random.Generator, size: tuple[int, int]) -> Float32Array:
    """A random mask, float32 (height, width), 0–1."""
    cell = tuple(-(-side // _GRID) for side in size)
    grid = (rng.random((_GRID + 1, _GRID + 1)) < _SHOWN).astype(np.float32)
    large = stretch(grid[:, :, None], ((_GRID + 1) * cell[0], (_GRID + 1) * cell[1]))[:, :, 0]
    top, left = (int(rng.integers(0, side)) for side in cell)
    return large[top : top + size[0], left : left + size[1]]
