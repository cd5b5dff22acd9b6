"""The gate: is this image like the training images?

The features of an image are its pooled maps. Each branch is scaled to length one, so that gain and contrast matter
little. Each channel is standardised and clipped at four standard deviations, so that no single channel decides. A
Gaussian with a few principal directions and one common variance for all others (probabilistic PCA, Tipping and
Bishop 1999) describes the features of the training images. The distance of an image is its squared Mahalanobis
distance under this Gaussian, divided by the number of channels: on average 1 over the training images.

There are two limits, because a picture of another scanner is less strange than a photograph. An image beyond the
first limit is "unlike the training images" (flagged). An image beyond the second limit is further away than other
scanners and settings are expected to move an ultrasound image (refused).

The statistics are in an optional file of the bundle, ``domain.npz``:

    branches            names in the order of the channels
    mean, inverse_std   float32 (C,)
    components          float16 (K, C), rows of length one
    variances           float32 (K,)
    noise               float32 ()
    threshold.<artifact>  float32 (): distance above which an image is refused; from validation images only
    warning.<artifact>    float32 (): distance above which it is flagged; from validation images only

The gate answers "have I seen such an image", not "is my answer right".
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.bundle.contract import GATE_FILE, Bundle
from sonoedge.edge_runtime.errors import BundleError
from sonoedge.edge_runtime.types import Float32Array

CUT_OFF = 4.0


@dataclass(frozen=True)
class GateResult:
    """The gate's answer for one image: flagged above ``warning``, refused above ``threshold`` or if NaN."""

    distance: float
    threshold: float
    warning: float

    @property
    def within_limit(self) -> bool:
        """Whether the image is not refused; False if the distance is NaN."""
        return self.distance <= self.threshold

    @property
    def within_warning(self) -> bool:
        """Whether the image is like the training images."""
        return self.distance <= min(self.warning, self.threshold)

    def to_json(self) -> dict[str, Any]:
        """``distance`` (None unless finite), ``warning``, ``threshold``."""
        return {
            "distance": round(self.distance, 4) if np.isfinite(self.distance) else None,
            "warning": round(self.warning, 4),
            "threshold": round(self.threshold, 4),
        }


@dataclass(frozen=True)
class Gate:
    """The statistics of domain.npz for one artifact; shapes as in the module's table.

    ``widths``: channels of each branch.
    """

    branches: tuple[str, ...]
    widths: tuple[int, ...]
    mean: Float32Array
    inverse_std: Float32Array
    components: Float32Array
    variances: Float32Array
    noise: float
    threshold: float
    warning: float

    def check(self, outputs: Mapping[str, Float32Array]) -> GateResult:
        """The gate's answer for one image from its feature maps, ``map_<branch>`` float32 (1, h, w, c)."""
        return self.check_features(features_of(outputs, self.branches))

    def check_features(self, features: Float32Array) -> GateResult:
        """The gate's answer for one image from its features (C,), see `features_of`."""
        return GateResult(self.distance(features), self.threshold, self.warning)

    def distance(self, features: Float32Array) -> float:
        """Squared Mahalanobis distance of features (C,), see `features_of`, divided by the number of channels."""
        z = standardise(features, self.mean, self.inverse_std)
        scores = self.components @ z
        # The rest is the part of z that no direction explains; rounding must not make it negative.
        rest = max(float(z @ z) - float(scores @ scores), 0.0)
        return (float((scores**2 / self.variances).sum()) + rest / self.noise) / len(z)


def features_of(outputs: Mapping[str, Float32Array], branches: Sequence[str]) -> Float32Array:
    """Features float32 (C,): the mean of each map ``map_<branch>`` float32 (1, h, w, c), scaled to length one."""
    pooled = [outputs[f"map_{name}"].mean(axis=(0, 1, 2)) for name in branches]
    return np.concatenate([vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in pooled])


def standardise(features: NDArray[Any], mean: NDArray[Any], inverse_std: NDArray[Any]) -> NDArray[Any]:
    """Features (…, C) in standard deviations from the mean, clipped at ``CUT_OFF``."""
    return np.clip((features - mean) * inverse_std, -CUT_OFF, CUT_OFF)


def load_gate(bundle: Bundle, artifact: str) -> Gate | None:
    """The gate of an artifact; None if the bundle has none for it.

    Raises:
        BundleError: domain.npz cannot be read or does not fit the bundle.
    """
    path = bundle.path / GATE_FILE
    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{GATE_FILE} cannot be read: {error}") from error
    if f"threshold.{artifact}" not in arrays:
        return None
    channels = sum(branch.channels for branch in bundle.branches)
    names = [branch.name for branch in bundle.branches]
    try:
        known = [str(name) for name in arrays["branches"]]
        directions = len(arrays["components"])
        shapes = {
            "mean": (channels,), "inverse_std": (channels,), "components": (directions, channels),
            "variances": (directions,), "noise": (), f"threshold.{artifact}": (), f"warning.{artifact}": (),
        }  # fmt: skip
        numbers = {name: np.asarray(arrays[name], np.float32) for name in shapes}
    except (KeyError, ValueError, TypeError) as error:
        raise BundleError(f"{GATE_FILE} lacks an array, or holds one that is not of numbers: {error}") from error
    if known != names:
        raise BundleError(f"{GATE_FILE} describes the branches {known}, the bundle has {names}.")
    for name, shape in shapes.items():
        if numbers[name].shape != shape or not np.isfinite(numbers[name]).all():
            raise BundleError(f"{GATE_FILE}: {name} must be finite and of shape {shape}.")
    if min(float(numbers["variances"].min(initial=1.0)), float(numbers["noise"])) <= 0.0:
        raise BundleError(f"{GATE_FILE}: variances must be positive.")
    return Gate(
        branches=tuple(names),
        widths=tuple(branch.channels for branch in bundle.branches),
        mean=numbers["mean"],
        inverse_std=numbers["inverse_std"],
        components=numbers["components"],
        variances=numbers["variances"],
        noise=float(numbers["noise"]),
        threshold=float(numbers[f"threshold.{artifact}"]),
        warning=float(numbers[f"warning.{artifact}"]),
    )
