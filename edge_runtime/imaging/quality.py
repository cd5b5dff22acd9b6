"""Hints about the quality of a picture: what an operator can change before trusting an answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.edge_runtime.words import words

# All 439 BUSI training images are inside these limits (brightness 30–139, contrast 30–74, speckle 0.021–0.059,
# colour 0, overlay at most 0.0012), with room for other scanners.
DARK, BRIGHT = 24.0, 170.0
FLAT = 12.0
SPECKLE = 0.018
COLOURED = 0.03
OVERLAY = 0.002
SMALL = 120
_MIDDLE = 192


@dataclass(frozen=True)
class Quality:
    """Measures of one image; see `measure`.

    Attributes:
        brightness: mean grey level, 0–255.
        contrast: standard deviation of the grey level.
        speckle: median relative difference of a pixel with echo from the mean of its four neighbours.
        colour: share of clearly coloured pixels (Doppler, a photo, a coloured overlay).
        overlay: share of pure white pixels with dark neighbours: text, callipers, rulers.
    """

    brightness: float
    contrast: float
    speckle: float
    colour: float
    overlay: float


def measure(image: UInt8Image) -> Quality:
    """Measure uint8 (height, width, 3), in less than a millisecond, for live frames.

    Levels and colour are measured on a coarse grid of pixels, speckle and overlay at full resolution in the middle.
    """
    step = max(1, min(image.shape[:2]) // 96)
    # Channel by channel: NumPy's reductions over a last axis of three are ten times slower.
    red, green, blue = np.moveaxis(image[::step, ::step].astype(np.int16), 2, 0)
    levels = (red + green + blue) / np.float32(3)
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    height, width = image.shape[:2]
    top, left = max(0, (height - _MIDDLE) // 2), max(0, (width - _MIDDLE) // 2)
    # Green alone: the channels are equal in B-mode, and their mean would cost more than all the rest.
    grey = image[top : top + _MIDDLE, left : left + _MIDDLE, 1].astype(np.float32)
    speckle = overlay = 0.0
    if min(grey.shape) >= 3:
        up, down, before, after = grey[:-2, 1:-1], grey[2:, 1:-1], grey[1:-1, :-2], grey[1:-1, 2:]
        inner, around = grey[1:-1, 1:-1], (up + down + before + after) / 4
        echo = np.flatnonzero((around > 20) & (around < 235))[::4]
        mean = around.ravel()[echo]
        relative = np.abs(inner.ravel()[echo] - mean) / mean
        speckle = float(np.median(relative)) if relative.size else 0.0
        darkest = np.minimum(np.minimum(up, down), np.minimum(before, after))
        overlay = float(((inner > 240) & (darkest < inner - 90)).mean())
    return Quality(float(levels.mean()), float(levels.std()), speckle, float((spread > 48).mean()), overlay)


def hints(image: UInt8Image, quality: Quality) -> tuple[str, ...]:
    """Codes of hints (`edge_runtime.words` has the texts); empty for an ordinary B-mode image."""
    found = {
        "small": min(image.shape[:2]) < SMALL,
        "dark": quality.brightness < DARK,
        "bright": quality.brightness > BRIGHT,
        "flat": quality.contrast < FLAT,
        "colour": quality.colour > COLOURED,
        "speckle": quality.speckle < SPECKLE,
        "overlay": quality.overlay > OVERLAY,
    }
    return tuple(code for code, applies in found.items() if applies)


def hint_texts(codes: tuple[str, ...]) -> list[dict[str, str]]:
    """``{"code", "text"}`` of each hint."""
    return [{"code": code, "text": words()["hints"][code]} for code in codes]
