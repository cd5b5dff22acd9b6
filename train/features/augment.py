"""Augmented copies of training images: what another hand on another scanner could have seen.

Deterministic: copy k of an image depends only on its digest and k, so that its features can be cached.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sonoedge.edge_runtime.types import UInt8Image

VERSION = "2"  # part of the cache key: raise it when the copies change


def augmented_copy(image: UInt8Image, sha256: str, copy: int) -> UInt8Image:
    """One augmented copy of an image, uint8 (H, W, 3) -> the same shape.

    Geometry: mirrored left to right half of the time, never upside down (shadows fall away from the probe);
    rotated by up to 10 degrees; depth scale 0.8–1.25 and aspect 0.87–1.15, since scanners differ in both and the
    input is stretched to a square; shifted by up to 6 %. Beam: speckle, an acoustic shadow in three of ten copies,
    a tilted time-gain curve. Screen: blur up to 1.2 pixels, gamma 0.7–1.4, gain 0.8–1.2.

    Args:
        image: RGB.
        sha256: hex digest of the image file.
        copy: number of the copy, at least 1.
    """
    rng = _generator(sha256, copy)
    return scanned_again(_moved(image, rng), rng)


def scanned_again(picture: Image.Image, rng: np.random.Generator) -> UInt8Image:
    """Beam and screen of another scanner on an RGB picture: blur, speckle, shadow, time-gain, gamma and gain."""
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    grey = np.asarray(picture).astype(np.float32) / 255.0
    height, width = grey.shape[:2]
    field = _speckle(rng, height, width) * _shadow(rng, height, width) * _tilt(rng, height)
    gamma, gain = np.exp(rng.uniform(np.log(0.7), np.log(1.4))), rng.uniform(0.8, 1.2)
    changed = gain * np.clip(grey * field[..., None], 0, 1) ** gamma
    result: UInt8Image = np.rint(255.0 * np.clip(changed, 0, 1)).astype(np.uint8)
    return result


def _moved(image: UInt8Image, rng: np.random.Generator) -> Image.Image:
    """Mirrored, turned, scaled, stretched and shifted about the centre; black where nothing was scanned."""
    height, width = image.shape[:2]
    angle = np.deg2rad(rng.uniform(-10, 10))
    scale, aspect = np.exp(rng.uniform(np.log(0.8), np.log(1.25))), np.exp(rng.uniform(-0.14, 0.14))
    shift = rng.uniform(-0.06, 0.06, 2) * (width, height)
    # Output pixel -> input pixel, as Pillow wants it.
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    inverse = np.diag([1 / (scale * np.sqrt(aspect)), np.sqrt(aspect) / scale]) @ turn
    centre = np.array([width / 2, height / 2])
    offset = centre - inverse @ (centre + shift)
    mirrored = image[:, ::-1] if rng.random() < 0.5 else image
    return Image.fromarray(np.ascontiguousarray(mirrored)).transform(
        (width, height),
        Image.Transform.AFFINE,
        (inverse[0, 0], inverse[0, 1], offset[0], inverse[1, 0], inverse[1, 1], offset[1]),
        Image.Resampling.BILINEAR,
    )


def _speckle(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Multiplicative grain about two pixels wide and one deep (lateral resolution is the worse), mean 1."""
    strength = rng.uniform(0, 0.15)
    noise = rng.standard_normal((height, width + 1)).astype(np.float32)
    return (1 + strength * (noise[:, :-1] + noise[:, 1:]) / np.float32(np.sqrt(2))).astype(np.float32)


def _shadow(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """A soft dark stripe that starts at some depth and goes down to the edge; all ones in seven of ten copies."""
    present = rng.random() < 0.3
    centre, half = rng.uniform(0.1, 0.9) * width, rng.uniform(0.04, 0.12) * width
    top, depth = rng.uniform(0.2, 0.7) * height, rng.uniform(0.3, 0.7)
    if not present:
        return np.ones((height, width), np.float32)
    across = np.exp(-0.5 * ((np.arange(width) - centre) / half) ** 2)
    down = np.clip((np.arange(height) - top) / (0.1 * height), 0, 1)
    return (1 - depth * np.outer(down, across)).astype(np.float32)


def _tilt(rng: np.random.Generator, height: int) -> NDArray[np.float32]:
    """Time-gain curve (H, 1): up to 20 % brighter or darker at one end than at the other."""
    slope = rng.uniform(-0.2, 0.2)
    return (1 + slope * (np.arange(height) / max(height - 1, 1) - 0.5))[:, None].astype(np.float32)


def _generator(sha256: str, copy: int) -> np.random.Generator:
    return np.random.default_rng([int(sha256[:15], 16), copy])
