"""The features of a subset, with labels and groups, as the fits take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sonoedge.train.features.cache import Features


@dataclass(frozen=True)
class FeatureSet:
    """Features of one subset.

    Attributes:
        features: per backbone float32 (N, …, C).
        y: labels int64 (N,).
        rows_per_image: how many rows show the same image: itself and its copies.
        channels: per backbone, the channels of each of its maps, which add up to C. A backbone that is not listed
            has one map.
    """

    features: Mapping[str, Features]
    y: NDArray[np.int64]
    rows_per_image: int = 1
    channels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def inputs(self) -> list[Features]:
        """The arrays in the order of the head's inputs."""
        return list(self.features.values())

    def maps(self) -> list[tuple[int, ...]]:
        """Channels of the maps of each backbone, in the order of `inputs`."""
        return [self.channels.get(name, (x.shape[-1],)) for name, x in self.features.items()]

    def targets(self) -> NDArray[np.float32]:
        """Labels as Keras wants them, float32 (N, 1)."""
        return self.y[:, None].astype(np.float32)


def mixed(
    rows: tuple[list[Features], NDArray[np.float32]], seed: int
) -> tuple[list[Features], NDArray[np.float32]]:
    """Rows, then as many mixtures of two of them (mixup, Zhang et al., ICLR 2018), shares from Beta(0.4, 0.4).

    Args:
        rows: inputs of the head, each (N, …), and targets (N, 1).
        seed: of the mixtures.

    Returns:
        Inputs (2 N, …) and targets (2 N, 1).
    """
    inputs, y = rows
    rng = np.random.default_rng(seed)
    other, share = rng.permutation(len(y)), rng.beta(0.4, 0.4, len(y)).astype(np.float32)

    def mix(x: Features) -> Features:
        s = share.reshape(-1, *[1] * (x.ndim - 1))
        return np.concatenate([x, s * x + (1 - s) * x[other]])

    return [mix(x) for x in inputs], mix(y)


def moments(data: FeatureSet) -> tuple[list[Features], list[Features]]:
    """Mean and scale per feature; the scale is sqrt(variance + median deviation^2 of the map).

    Plain standardisation blows up channels that hardly ever respond. The head then relies on their noise. An int8
    backbone, whose rounding errors are as large there as anywhere, would change its decisions.

    Returns:
        Means and scales, each in the order of `FeatureSet.inputs`, without the axis of the rows.
    """
    mean = [x.mean(axis=0) for x in data.inputs()]
    scale = []
    for x, maps in zip(data.inputs(), data.maps(), strict=True):
        deviations = np.split(x.std(axis=0), np.cumsum(maps)[:-1], axis=-1)
        floors = [max(float(np.median(s)), 1e-6) for s in deviations]
        scale.append(np.concatenate([np.hypot(s, f) for s, f in zip(deviations, floors, strict=True)], axis=-1))
    return mean, [s.astype(np.float32) for s in scale]


def standardise(data: FeatureSet, mean: list[Features], scale: list[Features]) -> FeatureSet:
    """Features minus their mean, divided by their scale; see `moments`."""
    arrays = {name: (x - m) / s for (name, x), m, s in zip(data.features.items(), mean, scale, strict=True)}
    return replace(data, features=arrays)
