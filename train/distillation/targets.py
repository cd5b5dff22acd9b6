"""The targets of distillation: what a teacher says of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.distillation.teacher import HIDDEN, Maps, Teacher
from sonoedge.train.features.cache import extract_features


@dataclass(frozen=True)
class Targets:
    """What the student sees of a set of images, and what it is taught about them.

    Attributes:
        x: the student's activations at its cut, float32 (N, …).
        hidden: the teacher's hidden maps on the student's grid, float32 (N, h, w, U).
        pooled: output of the teacher's first dense layer, float32 (N, U): mean of the hidden maps, plus the bias.
        logit: the teacher's logits, float32 (N,).
        cam: the teacher's signed maps on the student's grid, float32 (N, h, w).
        y: labels, int64 (N,).
    """

    x: NDArray[np.float32]
    hidden: Maps
    pooled: NDArray[np.float32]
    logit: NDArray[np.float32]
    cam: Maps
    y: NDArray[np.int64]

    def agreed(self, count: int) -> Targets:
        """Give an image and its copies one answer: the mean of the teacher's answers. Each keeps its own maps.

        The place that the teacher looks at moves with the copy. The answer does not, and the mean over copies is
        the better one: the teacher knows its training images too well.

        Args:
            count: number of images; their copies follow in the same order, round by round.
        """

        def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
            rounds = values.reshape(-1, count, *values.shape[1:])
            return np.tile(rounds.mean(axis=0), (len(rounds), *[1] * (values.ndim - 1)))

        return replace(self, pooled=mean(self.pooled), logit=mean(self.logit))


def build_targets(
    teacher: Teacher, hidden: Maps, x: NDArray[np.float32], y: NDArray[np.int64], grid: tuple[int, int]
) -> Targets:
    """Targets from the teacher's hidden maps.

    Args:
        teacher: the teacher.
        hidden: its hidden maps on its own grid, float32 (N, h, w, U).
        x: the student's activations at its cut, float32 (N, …).
        y: labels, int64 (N,).
        grid: (height, width) of the student's maps.
    """
    return Targets(
        x,
        hidden=on_grid(hidden, grid),
        pooled=hidden.mean(axis=(1, 2)) + teacher.dense[0][1],
        logit=teacher.logits(hidden).astype(np.float32),
        cam=on_grid(teacher.cams(hidden)[..., None], grid)[..., 0],
        y=y,
    )


def targets_of(
    teacher: Teacher,
    subsets: Mapping[str, Dataset],
    copies: int,
    seen: Callable[[Sequence[Sample], int], Maps],
    grid: tuple[int, int],
    *,
    cache: Path,
    progress: bool,
) -> dict[str, Targets]:
    """Targets by subset.

    A copy of a training image has the teacher's maps for this copy, and the mean of its answers for all copies.

    Args:
        teacher: its hidden maps go to the cache.
        subsets: images by subset.
        copies: augmented ones per training image; the other subsets have none.
        seen: samples and a number of copies -> the student's activations at its cut, in the order of
            `train.features.cache.extract_features`.
        grid: (height, width) of the student's maps.
        cache: folder.
        progress: show a bar.
    """
    found = {}
    for subset, data in subsets.items():
        times = copies if subset == "train" else 0
        hidden = extract_features(
            {HIDDEN: teacher.hidden}, data.samples, cache=cache, copies=times, progress=progress
        )[HIDDEN]
        whole = build_targets(teacher, hidden, seen(data.samples, times), np.tile(data.y, times + 1), grid)
        found[subset] = whole.agreed(len(data))
    return found


def on_grid(maps: Maps, grid: tuple[int, int]) -> Maps:
    """Maps (N, h, w, C) on another grid; each cell is the mean of the area it covers, so maps keep their means."""
    rows, columns = (_coverage(old, new) for old, new in zip(maps.shape[1:3], grid, strict=True))
    return np.einsum("ih,nhwc,jw->nijc", rows, maps, columns, optimize=True).astype(np.float32)


def _coverage(old: int, new: int) -> NDArray[np.float64]:
    """Share of each old cell in each new one, (new, old); rows add up to 1."""
    edges_old, edges_new = np.linspace(0, 1, old + 1), np.linspace(0, 1, new + 1)
    upper = np.minimum(edges_new[1:, None], edges_old[None, 1:])
    lower = np.maximum(edges_new[:-1, None], edges_old[None, :-1])
    return np.maximum(upper - lower, 0) * new
