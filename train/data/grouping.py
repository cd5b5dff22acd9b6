"""Which images belong together: copies by file name, identical files, near-duplicates by content.

If copies of one source image lie on both sides of a split, the test set only tests memory. File names reveal
generated copies (`source_key`). Thumbnails reveal the same view stored twice (`near_duplicate_pairs`).
`groups_from_pairs` joins all the evidence.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sonoedge.edge_runtime.imaging.image import IMAGE_SUFFIXES, resize
from sonoedge.edge_runtime.types import Float32Array, UInt8Image

THUMBNAIL_SIZE = 32
# Correlation of two detrended thumbnails. Different patients of BUS-BRA and different views of BUSI stay
# below 0.60 in all eight orientations, simulated cases of one phantom generator below 0.68.
NEAR_DUPLICATE_THRESHOLD = 0.70
# Higher than for views: a turned or mirrored copy is the same file processed, never another frame of the same view,
# so it correlates more. Layered images that are nearly symmetric would pass the lower threshold.
TURNED_THRESHOLD = 0.80
_TREND_WINDOW = 9  # thumbnail pixels
_NEIGHBOURS = np.ones((3, 3))
_BACKGROUND_LEVEL = 6.0  # grey levels; darker pixels connected to the border are outside the scan
_MIN_INSIDE = 64  # thumbnail pixels; fewer show too little to compare
_BLANK_STD = 1e-2  # grey levels; below it a thumbnail holds no structure to compare
_BLOCK_ROWS = 512  # 512 x 9,016 correlations of 4 bytes: 18 MB at a time

_IMAGE_SUFFIX = re.compile(r"(?<=.)(?:" + "|".join(map(re.escape, sorted(IMAGE_SUFFIXES))) + r")$", re.I | re.S)
_AUGMENTATION = re.compile(
    r"(?<=[^-_ .])[-_ .]+"
    r"(?:rotat(?:ed|e|ion)|rot|sharpen(?:ed)?|[hv]?flip(?:ped)?|mirror(?:ed)?|aug(?:ment(?:ed|ation)?)?"
    r"|blurr?(?:ed)?|noisy|copy)"
    r"[-_ ]*(?:\d+|\(\d+\))?(?:deg)?$",
    re.IGNORECASE,
)


def source_key(file_name: str) -> str:
    """Name of the source image of a possibly augmented copy; idempotent.

    Image suffixes and trailing augmentation words are removed until none is left:
    ``"benign (36)-rotated1-sharpened.png"`` -> ``"benign (36)"``. Nothing is removed that would leave an
    empty name.

    Args:
        file_name: a file name without folders, with or without its suffix.
    """
    while (shorter := _AUGMENTATION.sub("", _IMAGE_SUFFIX.sub("", file_name))) != file_name:
        file_name = shorter
    return file_name


def is_augmented_name(file_name: str) -> bool:
    """Whether the file name ends in an augmentation word (``-rotated1``, ``_aug3``, `` copy``, …)."""
    return source_key(file_name) != _IMAGE_SUFFIX.sub("", file_name)


def thumbnail(image: UInt8Image) -> Float32Array:
    """Small grey fingerprint of an image that survives rescaling, sharpening and a change of gain.

    The local mean is subtracted: every ultrasound frame is bright near the probe and dark below, so plain
    thumbnails of different patients correlate at up to 0.96. The black surround (outside the scan sector, the
    corners of a turned copy) is set to 0, since its outline is shared by unrelated images. Both steps
    commute with quarter turns and mirroring.

    Args:
        image: uint8 (height, width, 3), RGB.

    Returns:
        float32 (32, 32), mean 0 and standard deviation 1; all zeros for an image without structure.
    """
    grey = resize(image, (THUMBNAIL_SIZE, THUMBNAIL_SIZE)).astype(np.float64).mean(axis=2)
    # Outside are the dark pixels connected to the border; dark ones within the scan, such as a cyst, stay.
    scan = ndimage.binary_fill_holes(grey >= _BACKGROUND_LEVEL, _NEIGHBOURS)
    # One pixel less: where the surround meets the scan, a thumbnail pixel is a mixture of both.
    inside = ndimage.binary_erosion(scan, _NEIGHBOURS, border_value=1).astype(np.float64)
    count = inside.sum()
    if count < _MIN_INSIDE:
        return np.zeros((THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.float32)
    # A tiny weight keeps the mean defined where the whole window lies outside.
    bright, weight = (ndimage.uniform_filter(x, _TREND_WINDOW, mode="mirror") for x in (grey * inside, inside))
    trend = bright / np.maximum(weight, 1e-9)
    detail = (grey - trend) * inside
    detail = (detail - detail.sum() / count) * inside
    std = float(detail.std())
    if std < _BLANK_STD:
        return np.zeros((THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.float32)
    normalised: Float32Array = (detail / std).astype(np.float32)
    return normalised


def near_duplicate_pairs(
    thumbnails: Float32Array, threshold: float = NEAR_DUPLICATE_THRESHOLD, *, invariant: bool = False
) -> list[tuple[int, int]]:
    """Pairs of images that show the same view.

    Args:
        thumbnails: float32 (N, 32, 32) from `thumbnail`.
        threshold: smallest normalised correlation (-1 to 1) of a pair.
        invariant: also compare the quarter turns and mirror images (8 orientations, 8 times the work); for these
            the threshold is at least `TURNED_THRESHOLD`.

    Returns:
        Sorted index pairs ``(i, j)`` with ``i < j``. Images without structure match nothing.
    """
    if len(thumbnails) == 0:
        return []
    flat = np.ascontiguousarray(thumbnails.reshape(len(thumbnails), -1), dtype=np.float32)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(flat), _BLOCK_ROWS):
        block = thumbnails[start : start + _BLOCK_ROWS]
        others = flat[start:].T
        hits = np.zeros((len(block), others.shape[1]), dtype=bool)
        # The first orientation is the image as it is.
        for turned in _orientations(block) if invariant else (block,):
            limit = threshold if turned is block else max(threshold, TURNED_THRESHOLD)
            hits |= turned.reshape(len(block), -1) @ others >= limit * flat.shape[1]
        rows, columns = np.nonzero(np.triu(hits, k=1))
        pairs.extend(zip((rows + start).tolist(), (columns + start).tolist(), strict=True))
    return pairs


def pairs_with_equal(keys: Sequence[Hashable | None]) -> list[tuple[int, int]]:
    """Link every item to the first one with the same key; None equals nothing."""
    first: dict[Hashable, int] = {}
    pairs = []
    for index, key in enumerate(keys):
        if key is not None and first.setdefault(key, index) != index:
            pairs.append((first[key], index))
    return pairs


def groups_from_pairs(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Join linked items into groups: the connected components.

    Args:
        count: number of items.
        pairs: index pairs below ``count``.

    Returns:
        For every item the smallest index of its component.
    """
    if count == 0:
        return []
    rows, columns = np.array(list(pairs), np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(rows)), (rows, columns)), (count, count))
    _, component = connected_components(links, directed=False)
    firsts: list[int] = np.unique(component, return_index=True)[1][component].tolist()
    return firsts


def _orientations(block: Float32Array) -> Iterator[Float32Array]:
    yield block
    for mirrored in (False, True):
        for quarter_turns in range(0 if mirrored else 1, 4):
            turned = np.rot90(block[:, :, ::-1] if mirrored else block, quarter_turns, axes=(1, 2))
            yield np.ascontiguousarray(turned)
