"""SHAP: Shapley values of the logit over a hierarchy of regions (Owen values).

Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017; `shap.PartitionExplainer` with
shap's image masker, whose tree halves the image along its sides, and Owen's formula within the tree. The features
are 24 x 24 cells of the image; a hidden cell has the image's mean colour. The values add up to the logit of the
image less that of a picture of one colour, if the run is complete.

It looks closer in rounds of twice as many calls. What an earlier round asked is remembered, not asked again.

Cost: up to 256 calls. Needs the extra ``xai``: it is for a workstation, not for the device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.explain.methods.budget import Budget
from sonoedge.edge_runtime.explain.methods.probe import Probe
from sonoedge.edge_runtime.types import Float32Array

ROUNDS = (64, 128, 256)
CELLS = 24


class _Stopped(Exception):
    """The budget is used up in the middle of a round."""


def values(probe: Probe, budget: Budget, seed: int) -> Float32Array:
    """Each cell's value over its area, float32 (24, 24), in units of the logit; ``seed`` is not used."""
    import shap

    rows, columns = (np.linspace(0, side, CELLS + 1).round().astype(int) for side in probe.size)
    known: dict[bytes, float] = {}
    asked = 0

    def logit(cells: NDArray[np.floating]) -> float:
        nonlocal asked
        key = (cells > 0.5).tobytes()
        if key not in known:
            if not budget.more(asked, ROUNDS[-1]):
                raise _Stopped
            asked += 1
            shown = np.repeat(np.repeat(cells > 0.5, np.diff(rows), axis=0), np.diff(columns), axis=1)
            known[key] = probe.logit_where(shown)
        return known[key]

    def logits(batch: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.array([logit(cells[:, :, 0]) for cells in batch])

    # The masker hides a cell by writing 0 over the 1 of the "image": what arrives is the mask itself.
    shape = (CELLS, CELLS, 1)
    explainer = shap.PartitionExplainer(logits, shap.maskers.Image(np.zeros(shape), shape))
    found = np.zeros((CELLS, CELLS), np.float32)
    try:
        for calls in ROUNDS:
            result = explainer(np.ones((1, *shape)), max_evals=calls, batch_size=8, silent=True)
            before, found = found, result.values[0, :, :, 0].astype(np.float32)
            if calls > ROUNDS[0] and budget.same(before, found):
                return found
    except _Stopped:
        return found
    budget.more(ROUNDS[-1], ROUNDS[-1])
    return found
