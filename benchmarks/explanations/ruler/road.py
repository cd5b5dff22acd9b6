"""ROAD: does the answer change if pixels are taken out without leaving a trace?

Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022. A hole of one colour
tells the model where something was. Here a removed pixel becomes the weighted mean of its eight neighbours, which
may be removed themselves: a sparse linear system (section 4.2; direct neighbours 1/6, diagonal ones 1/12), and a
little noise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csc_matrix
from scipy.sparse.linalg import splu
from scipy.stats import rankdata

from sonoedge.edge_runtime.types import Float32Array

SHARES = (0.1, 0.3, 0.5, 0.7)
"""Shares of the pixels that are removed."""
_NOISE = 2.55
"""Standard deviation of the noise, a hundredth of the range 0–255."""
_BLOCK = 2
"""Pixels are removed in blocks of so many by so many: a sixteenth of the work, and lesions are larger."""
_NEIGHBOURS = [
    (dy, dx, 1 / 6 if dy == 0 or dx == 0 else 1 / 12)
    for dy in (-1, 0, 1)
    for dx in (-1, 0, 1)
    if (dy, dx) != (0, 0)
]


def impute(image: NDArray[np.floating], removed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """An image (H, W, C) with the ``removed`` pixels, bool (H, W), filled from their neighbours; no noise.

    At a border the weights of the neighbours that exist are scaled to add up to one. All pixels removed gives the
    mean.
    """
    filled = image.astype(np.float64)
    if removed.all():
        filled[:] = filled.mean(axis=(0, 1))
        return filled
    ys, xs = np.nonzero(removed)
    if not ys.size:
        return filled
    height, width = removed.shape
    number = np.full(removed.shape, -1)
    number[ys, xs] = np.arange(ys.size)
    diagonal, known = np.zeros(ys.size), np.zeros((ys.size, image.shape[2]))
    rows, columns, entries = [], [], []
    for dy, dx, weight in _NEIGHBOURS:
        y, x = ys + dy, xs + dx
        inside = np.flatnonzero((y >= 0) & (y < height) & (x >= 0) & (x < width))
        y, x = y[inside], x[inside]
        diagonal[inside] += weight
        other = number[y, x]
        unknown = other >= 0
        rows.append(inside[unknown])
        columns.append(other[unknown])
        entries.append(np.full(int(unknown.sum()), -weight))
        known[inside[~unknown]] += weight * image[y[~unknown], x[~unknown]]
    here = np.arange(ys.size)
    places = (np.concatenate([*rows, here]), np.concatenate([*columns, here]))
    system = csc_matrix(coo_matrix((np.concatenate([*entries, diagonal]), places), shape=(ys.size, ys.size)))
    filled[ys, xs] = splu(system).solve(known)
    return filled


def road(score: Callable[[Float32Array], float], image: Float32Array, order: Float32Array, seed: int = 0) -> float:
    """How much more the hot pixels matter than the cold ones, -1 to 1; 0 for an order that knows nothing.

    Args:
        score: gives the probability of the explained class for a model input (1, H, W, 3).
        image: the model input, (1, H, W, 3).
        order: signed map (H, W); only its ranks count.
        seed: of the noise.

    Returns:
        The mean over `SHARES` of the score without the coldest pixels less the score without the hottest ones.
    """
    rng = np.random.default_rng(seed)
    coarse, values = _blocks(image[0]), _blocks(order[:, :, None])[:, :, 0]
    ranks = rankdata(values, method="ordinal").reshape(values.shape)
    grey = bool((coarse == coarse[:, :, :1]).all())
    noise = rng.normal(0.0, _NOISE, image.shape[1:]).astype(np.float32)
    differences = []
    for share in SHARES:
        count = round(share * values.size)
        scores = []
        for removed in (ranks <= count, ranks > values.size - count):
            filled = impute(coarse[:, :, :1] if grey else coarse, removed)
            scores.append(score(_with(image, filled, removed, noise)))
        differences.append(scores[0] - scores[1])
    return float(np.mean(differences))


def _blocks(array: NDArray[np.floating]) -> NDArray[np.float64]:
    """Means of the blocks of (H, W, C); what is left over at the end of a side belongs to the last block."""
    starts = [np.arange(max(1, side // _BLOCK)) * _BLOCK for side in array.shape[:2]]
    sums = np.add.reduceat(np.add.reduceat(array.astype(np.float64), starts[0], axis=0), starts[1], axis=1)
    counts = [np.diff([*start, side]) for start, side in zip(starts, array.shape[:2], strict=True)]
    return sums / (counts[0][:, None] * counts[1][None, :])[:, :, None]


def _with(
    image: Float32Array, filled: NDArray[np.float64], removed: NDArray[np.bool_], noise: Float32Array
) -> Float32Array:
    rows, columns = (
        np.minimum(np.arange(side) // _BLOCK, blocks - 1)
        for side, blocks in zip(image.shape[1:3], removed.shape, strict=True)
    )
    place = np.ix_(rows, columns)
    new = np.clip(np.broadcast_to(filled[place], image.shape[1:]) + noise, 0.0, 255.0)
    return np.where(removed[place][:, :, None], new, image[0]).astype(np.float32)[None]
