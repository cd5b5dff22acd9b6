"""What a training image may look like the next time: crops that keep the lesion, another hand, another scanner.

A policy is a function of an image, its lesion mask and a random generator. It returns both, changed in the same
way. What the generator gives depends only on the image, the epoch and the seed, so that a run can be repeated::

    def policy(image, mask, rng):   # uint8 (H, W, 3); bool (H, W) or None; numpy.random.Generator
        return image[:, ::-1], None if mask is None else mask[:, ::-1]

``sonoedge train --protocol end-to-end --augment-policy mine:policy`` uses it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.train.features.augment import scanned_again

Mask = NDArray[np.bool_]
Policy = Callable[[UInt8Image, Mask | None, np.random.Generator], tuple[UInt8Image, Mask | None]]

VERSION = "1"  # part of the name of a backup: raise it when the pictures change
_ASPECT = (0.7, 1.6)
_HEIGHT = (0.6, 1.0)
_MARGIN = 0.1


def another_scanner(
    image: UInt8Image, mask: Mask | None, rng: np.random.Generator
) -> tuple[UInt8Image, Mask | None]:
    """The policy of SonoEdge.

    Geometry: a crop of 60 to 100 % of the height with an aspect of 0.7 to 1.6, since scanners differ in both and
    the input is stretched to a square. It holds the lesion with some margin, as far as it fits. Mirrored left to
    right half of the time, never upside down: shadows fall away from the probe. Beam: speckle, an acoustic shadow
    in three of ten pictures, a tilted time-gain curve. Screen: blur, gamma 0.7–1.4, gain 0.8–1.2, and in three of
    ten pictures calipers, which must not tell the class.
    """
    left, top, right, bottom = _crop(image.shape[:2], mask, rng)
    image = image[top:bottom, left:right]
    mask = None if mask is None else mask[top:bottom, left:right]
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], None if mask is None else mask[:, ::-1]
    result = scanned_again(Image.fromarray(np.ascontiguousarray(image)), rng)
    if rng.random() < 0.3:
        result = _with_calipers(result, mask, rng)
    return result, mask


def find_policy(name: str | None) -> Policy:
    """The policy ``module:function``; None is `another_scanner`.

    Raises:
        UsageError: it cannot be imported, or is no function.
    """
    if name is None:
        return another_scanner
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--augment-policy takes MODULE:FUNCTION. Received: {name!r}: {error}") from error
    if not callable(found):
        raise UsageError(f"--augment-policy takes MODULE:FUNCTION. Received: {name!r}, which is no function.")
    policy: Policy = found
    return policy


def changed(
    policy: Policy, image: UInt8Image, mask: Mask | None, rng: np.random.Generator
) -> tuple[UInt8Image, Mask | None]:
    """What a policy makes of an image.

    Raises:
        UsageError: it returned something else than an image and a mask of the same size.
    """
    result = policy(image, mask, rng)
    try:
        found, kept = result
        fits = found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and min(found.shape) > 0
        fits = fits and (kept is None or kept.shape == found.shape[:2])
    except (TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise UsageError("An augmentation policy must return an image, uint8 (H, W, 3), and a mask (H, W) or None.")
    return found, kept


def _crop(size: tuple[int, ...], mask: Mask | None, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a crop that holds the lesion, as far as it fits."""
    full_height, full_width = size[:2]
    aspect = np.exp(rng.uniform(*np.log(_ASPECT)))
    height = rng.uniform(*_HEIGHT) * full_height
    width = height * aspect
    spread = rng.random(2)
    if width > full_width:
        # A narrow picture has no wider crop: its height gives way.
        width, height = float(full_width), max(full_width / aspect, _HEIGHT[0] * full_height)
    first_x, last_x, first_y, last_y = _box(mask, full_width, full_height)
    width, height = max(width, last_x - first_x), max(height, last_y - first_y)
    left = _between(last_x - width, first_x, full_width - width, spread[0])
    top = _between(last_y - height, first_y, full_height - height, spread[1])
    right, bottom = min(round(left + width), full_width), min(round(top + height), full_height)
    return round(left), round(top), max(right, round(left) + 1), max(bottom, round(top) + 1)


def _box(mask: Mask | None, width: int, height: int) -> tuple[float, float, float, float]:
    """The lesion's first and last column and row with a margin; without one a point in the middle."""
    if mask is None or not mask.any():
        return width / 2, width / 2, height / 2, height / 2
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x, y = _MARGIN * (columns[-1] - columns[0] + 1), _MARGIN * (rows[-1] - rows[0] + 1)
    return (
        max(columns[0] - x, 0.0), min(columns[-1] + 1 + x, float(width)),
        max(rows[0] - y, 0.0), min(rows[-1] + 1 + y, float(height)),
    )  # fmt: skip


def _between(low: float, high: float, limit: float, share: float) -> float:
    low, high = max(low, 0.0), max(min(high, limit), 0.0)
    return low + share * max(high - low, 0.0)


def _with_calipers(image: UInt8Image, mask: Mask | None, rng: np.random.Generator) -> UInt8Image:
    """Two crosses, as a sonographer sets them: at the lesion's ends or, without a mask, anywhere."""
    height, width = image.shape[:2]
    first_x, last_x, first_y, last_y = _box(mask, width, height)
    if last_x - first_x < 2:
        first_x, last_x = sorted(rng.uniform(0, width, 2))
        first_y, last_y = sorted(rng.uniform(0, height, 2))
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    arm, grey = max(2, round(rng.uniform(0.008, 0.02) * height)), int(rng.uniform(170, 256))
    middle = (first_y + last_y) / 2 + rng.uniform(-0.2, 0.2) * (last_y - first_y)
    for x in (first_x, last_x):
        draw.line([(x - arm, middle), (x + arm, middle)], (grey,) * 3)
        draw.line([(x, middle - arm), (x, middle + arm)], (grey,) * 3)
    return np.asarray(picture)
