"""A picture in any form that a program may have: file, bytes, Pillow image or array."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sonoedge.edge_runtime.decode_limits import DECODE_ERRORS, MAX_PIXELS
from sonoedge.edge_runtime.errors import ImageError, UsageError
from sonoedge.edge_runtime.imaging.image import decode_image, read_image, to_rgb
from sonoedge.edge_runtime.types import UInt8Image

Source = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""A picture: the path of an image file, the bytes of one, a Pillow image, a grey or an RGB array."""
UNNAMED = "image"
"""`Picture.name` of what is no file."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image: uint8 (height, width, 3), RGB.
        name: the path as given; `UNNAMED` for a picture in memory.
        decode_ms: milliseconds that decoding took.
        frame: number, from 1, of the file's frame that was asked for; None if none was.
    """

    image: UInt8Image
    name: str
    decode_ms: float
    frame: int | None = None


def open_picture(source: Source, frame: int | None = None) -> Picture:
    """Decode a picture; ``frame``, from 1, is for files of several frames.

    Raises:
        ImageError: see `read_image`; or the array is not uint8, or neither grey nor RGB.
        MissingExtraError: the file is DICOM and pydicom is not installed.
        UsageError: ``source`` is a folder, or nothing that `Source` names.
    """
    start = perf_counter()
    image, name = _decoded(source, frame)
    return Picture(image, name, milliseconds_since(start), frame)


def milliseconds_since(start: float) -> float:
    """Milliseconds since a reading of `time.perf_counter`."""
    return 1e3 * (perf_counter() - start)


def _decoded(source: Source, frame: int | None) -> tuple[UInt8Image, str]:
    if frame is not None and isinstance(source, Image.Image | np.ndarray):
        raise UsageError("A frame can be chosen in a file only, not in a picture that is decoded already.")
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_image(bytes(source), name=UNNAMED, frame=frame), UNNAMED
    if isinstance(source, Image.Image):
        return _of_pillow(source), str(getattr(source, "filename", "") or UNNAMED)
    if isinstance(source, np.ndarray):
        return _of_array(source), UNNAMED
    if not isinstance(source, str | os.PathLike):
        raise UsageError(
            "A picture is a path, the bytes of an image file, a Pillow image or a uint8 array. "
            f"Received: {type(source).__name__}."
        )
    path = Path(source)
    if path.is_dir():
        raise UsageError(f"{path} is a folder: stream() answers its images one by one.")
    return read_image(path, frame=frame), str(source)


def _of_pillow(image: Image.Image) -> UInt8Image:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"The image has {image.width}x{image.height} pixels. At most {MAX_PIXELS:,} pixels are accepted."
        )
    try:
        return to_rgb(ImageOps.exif_transpose(image))
    except DECODE_ERRORS as error:
        raise ImageError(f"The image cannot be decoded: {error}") from error


def _of_array(array: NDArray[Any]) -> UInt8Image:
    if array.dtype != np.uint8:
        raise ImageError(f"An array must hold grey values from 0 to 255 as uint8. Received: {array.dtype}.")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)) or not array.size:
        raise ImageError(
            "An array must be grey, (height, width), or RGB, (height, width, 3), and not empty. "
            f"Received: shape {array.shape}."
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ImageError(f"The array has {array.shape[0] * array.shape[1]:,} pixels. At most {MAX_PIXELS:,}.")
    grey = array if array.ndim == 3 else array[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(grey, (*array.shape[:2], 3)))
