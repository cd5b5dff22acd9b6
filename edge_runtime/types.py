"""Types that modules share: arrays of pixels and numbers, and rectangles of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UInt8Image = NDArray[np.uint8]
"""RGB, (height, width, 3), 0–255."""
Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class Region:
    """A rectangle of pixels: columns ``left`` to ``right``, rows ``top`` to ``bottom``, ends excluded."""

    left: int
    top: int
    right: int
    bottom: int

    def crop(self, image: UInt8Image) -> UInt8Image:
        """The part of uint8 (height, width, 3) inside the rectangle."""
        return image[self.top : self.bottom, self.left : self.right]

    def outline(self, image: UInt8Image, colour: tuple[int, int, int] = (0, 255, 0)) -> UInt8Image:
        """A copy of uint8 (height, width, 3) with the rectangle drawn and everything outside it darkened."""
        drawn = image // 3
        drawn[self.top : self.bottom, self.left : self.right] = self.crop(image)
        drawn[self.top : self.bottom, [self.left, self.right - 1]] = colour
        drawn[[self.top, self.bottom - 1], self.left : self.right] = colour
        return drawn
