"""Augmented copies of training images: what another hand on the probe could have seen.

Deterministic: copy k of an image depends only on its digest and k, so that its features can be cached.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from edge_runtime.image import UInt8Image

_DRAWS_BEFORE_MIRRORING = 6  # angle, zoom, two shifts, gamma, gain
VERSION = "1"  # part of the cache key: raise it when the copies change


def augmented_copy(image: UInt8Image, sha256: str, copy: int) -> UInt8Image:
    """Copy ``copy`` >= 1 of an image, uint8 (H, W, 3) -> the same shape.

    Mirrored left to right half of the time, rotated by up to 10 degrees, zoomed to 90–110 %, shifted by up to
    5 %, gamma 0.8–1.25 and gain 0.9–1.1. Never upside down: shadows fall away from the probe.
    """
    rng = _generator(sha256, copy)
    height, width = image.shape[:2]
    angle, zoom = np.deg2rad(rng.uniform(-10, 10)), rng.uniform(0.9, 1.1)
    shift_x, shift_y = rng.uniform(-0.05, 0.05, 2) * (width, height)
    gamma, gain = np.exp(rng.uniform(np.log(0.8), np.log(1.25))), rng.uniform(0.9, 1.1)
    mirrored = image[:, ::-1] if _is_mirrored(rng) else image
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    centre_x, centre_y = width / 2, height / 2
    matrix = (
        cos,
        sin,
        centre_x - cos * (centre_x + shift_x) - sin * (centre_y + shift_y),
        -sin,
        cos,
        centre_y + sin * (centre_x + shift_x) - cos * (centre_y + shift_y),
    )
    moved = Image.fromarray(np.ascontiguousarray(mirrored)).transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    table = np.clip(gain * 255.0 * (np.arange(256) / 255.0) ** gamma, 0, 255)
    return np.rint(table).astype(np.uint8)[np.asarray(moved)]


def is_mirrored(sha256: str, copy: int) -> bool:
    """Whether that copy is mirrored left to right; copy 0 is the image itself."""
    if copy == 0:
        return False
    rng = _generator(sha256, copy)
    rng.uniform(size=_DRAWS_BEFORE_MIRRORING)
    return _is_mirrored(rng)


def _generator(sha256: str, copy: int) -> np.random.Generator:
    return np.random.default_rng([int(sha256[:15], 16), copy])


def _is_mirrored(rng: np.random.Generator) -> bool:
    return bool(rng.random() < 0.5)
