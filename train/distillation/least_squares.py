"""Linear layers in closed form: ridge regression that stays near a given matrix where the data say little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def ridge(gram: Float, cross: Float, start: Float, strength: float) -> Float:
    """The matrix W (C, U) that minimises ``|x W - y|^2`` plus a penalty on its squared distance from ``start``.

    Args:
        gram: x^T x (C, C) of centred rows.
        cross: x^T y (C, U) of centred rows.
        start: (C, U).
        strength: of the penalty, as a share of the mean of the diagonal of ``gram``.
    """
    damped = gram.copy()
    damped[np.diag_indices_from(damped)] += max(strength * np.trace(gram) / len(gram), 1e-12)
    return start + np.linalg.solve(damped, cross - gram @ start)


def fit_dense(x: Float, y: Float, start: Float, strength: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel (C, U) and bias (U,) of the dense layer that maps rows x (N, C) to y (N, U); see `ridge`."""
    mean, wanted = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    centred = x - mean
    kernel = ridge(centred.T @ centred, centred.T @ (y - wanted), start, strength)
    return kernel.astype(np.float32), (wanted - mean @ kernel).astype(np.float32)
