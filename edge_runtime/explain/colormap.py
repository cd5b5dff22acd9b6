"""The colour table of heat maps: no plotting library on the device."""

from __future__ import annotations

import numpy as np

# Anchors at equal distances, dark violet to pale yellow. Lightness rises all the way, so that the map is readable
# in grey and for colour-blind readers, too.
_ANCHORS = np.array(
    [
        (10, 5, 40),
        (75, 12, 107),
        (140, 30, 100),
        (200, 55, 70),
        (238, 105, 37),
        (252, 165, 15),
        (246, 215, 70),
        (252, 255, 164),
    ],
    np.float64,
)
_POSITIONS = np.linspace(0.0, 1.0, 256)

COLORMAP = np.stack(
    [np.interp(_POSITIONS, np.linspace(0.0, 1.0, len(_ANCHORS)), channel) for channel in _ANCHORS.T], axis=1
)
"""Float64 (256, 3), 0–255: RGB for heat 0–255."""
