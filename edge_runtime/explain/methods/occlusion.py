"""Occlusion: how far does the logit fall if a window is hidden?

Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 4.2. A window of a sixth
of each side moves by half its side. A cell's value is the mean fall of the logit over the windows that hide it.

Cost: 121 calls. The first 36 windows cover the image once, so that a short budget still looks at every place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.explain.methods.budget import Budget
from sonoedge.edge_runtime.explain.methods.probe import Probe
from sonoedge.edge_runtime.types import Float32Array

CELLS = 12
"""Cells along each side; a window hides two by two."""


def values(probe: Probe, budget: Budget, seed: int) -> Float32Array:
    """Mean fall of the logit, float32 (12, 12); ``seed`` is not used."""
    rows, columns = (np.linspace(0, side, CELLS + 1).round().astype(int) for side in probe.size)
    falls, hidden = np.zeros((CELLS, CELLS), np.float32), np.zeros((CELLS, CELLS), np.float32)

    def current() -> Float32Array:
        return (falls / np.maximum(hidden, 1.0)).astype(np.float32)

    windows, whole = _windows(), probe.logit
    first = (CELLS // 2) ** 2
    for done, (y, x) in enumerate(windows):
        if not budget.more(done, len(windows), current if done >= first else None):
            return current()
        shown = np.ones(probe.size, np.float32)
        shown[rows[y] : rows[y + 2], columns[x] : columns[x + 2]] = 0.0
        falls[y : y + 2, x : x + 2] += whole - probe.logit_where(shown)
        hidden[y : y + 2, x : x + 2] += 1.0
    budget.more(len(windows), len(windows))
    return current()


def _windows() -> list[tuple[int, int]]:
    """First cell (row, column) of each window: those side by side first, then those between."""
    places: NDArray[np.int64] = np.arange(CELLS - 1)
    found = [(int(y), int(x)) for y in places for x in places]
    return sorted(found, key=lambda place: (place[0] % 2 + place[1] % 2, place[0] % 2))
