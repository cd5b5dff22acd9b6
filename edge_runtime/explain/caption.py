"""Two lines of text below a picture: what was found, and what it must not be used for."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sonoedge.edge_runtime.types import UInt8Image

CAPTION_PIXELS = 36
"""Rows that the caption adds."""
_WHITE, _AMBER = (230, 230, 230), (240, 163, 74)


def captioned(picture: UInt8Image, first: str, second: str) -> UInt8Image:
    """The picture, uint8 (height, width, 3), above two lines of text on black: uint8 (height + 36, width, 3)."""
    height, width = picture.shape[:2]
    canvas = Image.new("RGB", (width, height + CAPTION_PIXELS))
    canvas.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(canvas)
    draw.text((4, height + 3), first, fill=_WHITE)
    draw.text((4, height + 19), second, fill=_AMBER)
    return np.asarray(canvas)
