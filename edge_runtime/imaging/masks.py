"""Lesion masks beside images: drawn on pictures, scored in benchmarks, never seen by a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.imaging.image import read_image

_ASPECT_TOLERANCE = 0.02


def read_mask(path: str | Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask at the size of its image.

    Args:
        path: image file; pixels at least half as bright as the brightest one are inside.
        size: (height, width) of the image. A mask of another size but the same aspect ratio is stretched to it.

    Returns:
        bool (height, width); all False for an empty mask.

    Raises:
        ImageError: the file cannot be decoded.
        DataError: the mask's aspect ratio differs, so it belongs to another image.
    """
    grey = read_image(path).max(axis=2)
    height, width = size
    ratio = (grey.shape[1] * height) / (grey.shape[0] * width)
    # Rounding by one pixel is allowed: small masks cannot keep the aspect ratio any better.
    slack = max(_ASPECT_TOLERANCE, 1.0 / min(grey.shape))
    if abs(np.log(ratio)) > slack:
        raise DataError(
            f"The mask {path} does not have the shape of its image. "
            f"Received: {grey.shape[1]}x{grey.shape[0]} for an image of {width}x{height} pixels."
        )
    inside = (grey > 0) & (2 * grey.astype(np.int32) >= int(grey.max()))
    if grey.shape != size:
        stretched = Image.fromarray(inside.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
        inside = np.asarray(stretched) > 0
    return inside


def find_mask(masks: Path, image: Path) -> Path | None:
    """The mask of an image, or None.

    ``masks`` is the mask file itself, or a folder. In a folder the mask has the image's name or stem, with or
    without ``_mask``; it lies in a sub-folder named like the image's folder (its class), or directly in the folder.
    """
    if masks.is_file():
        return masks
    folders = (masks / image.parent.name, masks)
    stems = (image.name, f"{image.stem}.png", f"{image.stem}_mask.png")
    return next((folder / name for folder in folders for name in stems if (folder / name).is_file()), None)
