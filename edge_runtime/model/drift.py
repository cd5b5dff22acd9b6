"""Drift: are recent images still like the training images?

    drift = Drift(load_gate(bundle, artifact))
    domain = drift.add(features)
    print(drift.to_json()["shift"])

Drift uses the features of the gate (`edge_runtime.model.gate`), but over many images: a scanner with another gain
moves all images a little, and none of them far. Only sums are kept, never the features of a single image.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.model.gate import Gate, GateResult, standardise
from sonoedge.edge_runtime.types import Float32Array


class Drift:
    """Running comparison of an artifact's images with its training images; safe to call from several threads."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._lock = threading.Lock()
        self._sum = np.zeros(len(gate.mean))
        self._distance = 0.0
        self._images = self._flagged = self._refused = 0

    def add(self, features: Float32Array) -> GateResult:
        """Count one image and return the gate's answer. Features with a NaN are refused and count in no mean.

        Args:
            features: float32 (C,), see `edge_runtime.model.gate.features_of`.
        """
        verdict = self._gate.check_features(features)
        with self._lock:
            self._refused += not verdict.within_limit
            self._flagged += verdict.within_limit and not verdict.within_warning
            if np.isfinite(verdict.distance):
                self._images += 1
                self._distance += verdict.distance
                self._sum += standardise(features, self._gate.mean, self._gate.inverse_std)
        return verdict

    def to_json(self) -> dict[str, Any]:
        """The statistics so far.

        ``shift`` compares the mean of each channel with the mean over the training images, in standard deviations
        of the training images: the root mean square over all channels, ``by_branch`` over those of a branch.
        ``by_chance`` is the shift of as many independent images like the training images: 1 / sqrt(images); several
        views of one patient show more. ``distance`` is the mean distance; it is 1 over the training images.
        ``images``, ``flagged`` and ``refused`` are counts. Without images the other figures are None.
        """
        with self._lock:
            count = self._images
            mean = self._sum / max(count, 1)
            body = {"images": count, "flagged": self._flagged, "refused": self._refused}
            distance = self._distance / count if count else None
        branches = np.split(mean, np.cumsum(self._gate.widths)[:-1])
        return {
            **body,
            "shift": _root_mean_square(mean) if count else None,
            "by_branch": {
                name: _root_mean_square(part) if count else None
                for name, part in zip(self._gate.branches, branches, strict=True)
            },
            "by_chance": round(count**-0.5, 4) if count else None,
            "distance": None if distance is None else round(distance, 4),
        }


def _root_mean_square(values: NDArray[np.float64]) -> float:
    return round(float(np.sqrt(np.mean(values**2))), 4)
