"""Turned, mirrored, sharpened and rescaled copies of an image, found by what they show.

A copy that was turned about its centre keeps the disc around the centre, whatever fills its corners. The search
compares discs at low resolution in all turns of up to 30 degrees. The verification compares the promising pairs
again, at twice the resolution and in steps of one degree. Local means are subtracted before, as in
`train.data.grouping`: every ultrasound frame is bright above and dark below.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_matrix

from sonoedge.edge_runtime.imaging.image import resize
from sonoedge.edge_runtime.types import UInt8Image

FINE = 64
"""Pixels of the square in which discs are verified; the search halves it."""
MAX_TURN = 30
"""Degrees by which a copy is turned at most."""
_STEP = 6  # degrees between the turns of the search
_SEARCH_THRESHOLD = 0.50
_SURE_THRESHOLD = 0.90  # such a correlation needs no verification
VERIFIED_THRESHOLD = 0.70
"""Smallest correlation of a verified pair."""
_TREND_SIGMA = 1 / 12  # of the square's side
_BLANK_STD = 0.5  # grey levels
_BLOCK = 512
_PAIRS_AT_ONCE = 2048

Discs = NDArray[np.float32]


@dataclass(frozen=True)
class CopyPair:
    """Two images of the same content.

    Attributes:
        first, second: indices of the images.
        correlation: of their discs, -1 to 1.
        angle: degrees by which the first must be turned to give the second.
        mirrored: whether the first must be mirrored left to right before.
    """

    first: int
    second: int
    correlation: float
    angle: int
    mirrored: bool


def centre_square(image: UInt8Image) -> NDArray[np.uint8]:
    """The part of an image that holds the disc.

    Args:
        image: uint8 (height, width, 3).

    Returns:
        Grey centre square, uint8 (64, 64).
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = resize(np.ascontiguousarray(image[top : top + side, left : left + side]), (FINE, FINE))
    grey: NDArray[np.uint8] = np.rint(square.mean(axis=2)).astype(np.uint8)
    return grey


def copy_pairs(squares: NDArray[np.uint8], *, progress: bool = False) -> list[CopyPair]:
    """Pairs of images that are turned, mirrored, sharpened or rescaled copies of one another.

    Args:
        squares: uint8 (N, 64, 64) from `centre_square`.
        progress: show a bar on stderr.

    Returns:
        Sorted pairs with ``first < second``. Discs without structure match nothing.
    """
    from tqdm import tqdm

    if len(squares) < 2:
        return []
    fine = _details(squares.astype(np.float32))
    halved = squares.astype(np.float32).reshape(len(squares), FINE // 2, 2, FINE // 2, 2).mean(axis=(2, 4))
    coarse = _details(halved)
    inside = _disc(FINE // 2).reshape(-1)
    others = np.ascontiguousarray(_unit(coarse[:, inside]).T)
    turns = [(angle, m) for m in (False, True) for angle in range(-MAX_TURN, MAX_TURN + 1, _STEP)]
    found = []
    for start in tqdm(range(0, len(squares), _BLOCK), "comparing", disable=None if progress else True):
        block = coarse[start : start + _BLOCK].T
        best = np.full((block.shape[1], len(squares) - start), -1.0, np.float32)
        which = np.zeros(best.shape, np.int8)
        for number, (angle, mirrored) in enumerate(turns):
            turned = _unit((_turn(FINE // 2, angle, mirrored) @ block).T[:, inside])
            correlation = turned @ others[:, start:]
            better = correlation > best
            best[better], which[better] = correlation[better], number
        rows, columns = np.nonzero(np.triu(best >= _SEARCH_THRESHOLD, k=1))
        unsure: defaultdict[int, list[CopyPair]] = defaultdict(list)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            number = int(which[row, column])
            pair = CopyPair(row + start, column + start, float(best[row, column]), *turns[number])
            if pair.correlation >= _SURE_THRESHOLD:
                found.append(pair)
            else:
                unsure[number].append(pair)
        for pairs in unsure.values():
            for first in range(0, len(pairs), _PAIRS_AT_ONCE):
                verified = _verified(pairs[first : first + _PAIRS_AT_ONCE], fine)
                found += [pair for pair in verified if pair.correlation >= VERIFIED_THRESHOLD]
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _verified(pairs: Sequence[CopyPair], fine: Discs) -> list[CopyPair]:
    """Compare pairs that were found in the same turn at twice the resolution; each gets its best turn to a degree.

    All pairs at once: many share their first image, and turning that image is most of the work.
    """
    angle, mirrored = pairs[0].angle, pairs[0].mirrored
    inside = _disc(FINE).reshape(-1)
    firsts, place = np.unique([pair.first for pair in pairs], return_inverse=True)
    seconds = _unit(fine[[pair.second for pair in pairs]][:, inside])
    columns = np.ascontiguousarray(fine[firsts].T)
    best, angles = np.full(len(pairs), -1.0, np.float32), np.full(len(pairs), angle)
    for turn in range(angle - _STEP // 2, angle + _STEP // 2 + 1):
        turned = _unit((_turn(FINE, turn, mirrored) @ columns).T[:, inside])
        correlation = np.einsum("pi,pi->p", turned[place], seconds)
        better = correlation > best
        best[better], angles[better] = correlation[better], turn
    return [
        replace(pair, correlation=float(value), angle=int(turn))
        for pair, value, turn in zip(pairs, best, angles, strict=True)
    ]


def _details(squares: NDArray[np.float32]) -> Discs:
    """Squares without their local mean, 0 outside the disc: (N, S, S) -> (N, S * S)."""
    size = squares.shape[1]
    mask = _disc(size).astype(np.float32)
    sigma = _TREND_SIGMA * size
    weight = gaussian_filter(mask, sigma)
    blurred = gaussian_filter(squares * mask, (0.0, sigma, sigma))
    details: Discs = ((squares - blurred / np.maximum(weight, 1e-6)) * mask).reshape(len(squares), -1)
    return details


def _unit(vectors: Discs) -> Discs:
    """Rows with mean 0 and length 1; rows without structure become 0."""
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    flat = length < _BLANK_STD * np.sqrt(vectors.shape[1])
    unit: Discs = np.where(flat, 0, centred / np.maximum(length, 1e-6)).astype(np.float32)
    return unit


@lru_cache(maxsize=2)
def _disc(size: int) -> NDArray[np.bool_]:
    """Pixels within the inscribed circle, less the rim that interpolation blurs."""
    distance = np.hypot(*np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 2))
    return np.asarray(distance <= size / 2 - 1)


@lru_cache(maxsize=256)
def _turn(size: int, angle: int, mirrored: bool) -> Any:
    """Sparse matrix (S * S, S * S) that mirrors left to right (if asked), then turns about the centre, bilinear."""
    radians, middle = np.deg2rad(angle), (size - 1) / 2
    y, x = (grid.reshape(-1) - middle for grid in np.mgrid[0:size, 0:size].astype(float))
    source_x = np.cos(radians) * x - np.sin(radians) * y + middle
    source_y = np.sin(radians) * x + np.cos(radians) * y + middle
    if mirrored:
        source_x = size - 1 - source_x
    rows, columns, values = [], [], []
    left, top = np.floor(source_x).astype(int), np.floor(source_y).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1 - np.abs(source_x - left - dx)) * (1 - np.abs(source_y - top - dy))
            column, row = left + dx, top + dy
            valid = (column >= 0) & (column < size) & (row >= 0) & (row < size) & (weight > 0)
            rows.append(np.flatnonzero(valid))
            columns.append(row[valid] * size + column[valid])
            values.append(weight[valid])
    entries = (np.concatenate(values).astype(np.float32), (np.concatenate(rows), np.concatenate(columns)))
    return csr_matrix(entries, shape=(size * size, size * size))


def worst_first(pairs: Sequence[CopyPair], labels: Sequence[int]) -> list[CopyPair]:
    """Sort pairs: those under different labels first, then the most alike first.

    Args:
        pairs: indices below N.
        labels: of the N images.
    """
    return sorted(pairs, key=lambda p: (labels[p.first] == labels[p.second], -p.correlation, p.first, p.second))
