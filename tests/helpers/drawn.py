"""Pictures that the gate of the small bundle in tests/vectors knows, and one that it refuses."""

from __future__ import annotations

import numpy as np

ARTIFACT = "tflite-fp32"


def grey(seed: int = 1) -> np.ndarray:
    """Like the pictures that the gate of the small bundle was fitted on (`drawn` of scripts/write_vectors.py)."""
    i = np.arange(130 * 140 * 3, dtype=np.uint64) + np.uint64(seed)
    grain = ((i * np.uint64(2654435761) % np.uint64(2**32)) >> np.uint64(26)).reshape(130, 140, 3)[:, :, 1]
    x, y = np.abs(np.arange(140) - 70) * 32 // 140, np.abs(np.arange(130) - 65) * 32 // 130
    plane = grain + (3 if seed % 2 else 1) * (x[None, :] + y[:, None]).astype(np.uint64)
    return np.repeat(plane.astype(np.uint8)[:, :, None], 3, axis=2)


def board() -> np.ndarray:
    """Far from anything that the gate knows."""
    return np.repeat((np.indices((130, 140)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
