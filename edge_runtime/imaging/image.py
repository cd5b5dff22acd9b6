"""Decoding, colour and resizing: the only code in SonoEdge that turns a file into model input.

Training, calibration, the benchmarks and the device call these functions, so that an image is the same array
everywhere. The rule (bundle schema 1): decode to 8 bits per channel, ``convert("RGB")``, stretch to the input size
with Pillow's antialiased ``BILINEAR``; no letterbox and no crop. Values stay 0–255: the graph of each backbone
holds its own normalisation.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from sonoedge.edge_runtime.decode_limits import DECODE_ERRORS, MAX_PIXELS, chosen_frame
from sonoedge.edge_runtime.errors import ImageError
from sonoedge.edge_runtime.types import Float32Array, UInt8Image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom"})
_DICOMDIR = b"1.2.840.10008.1.3.10"  # class of a disc's table of contents
_PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")


def read_image(path: str | Path, *, frame: int | None = None) -> UInt8Image:
    """Decode an image file.

    Args:
        path: PNG, JPEG, BMP, TIFF or DICOM.
        frame: number, from 1, in a DICOM loop or a TIFF of several pages; such files need one.

    Returns:
        uint8 array (height, width, 3), RGB, 0–255. Alpha is composited over black, the background of an
        ultrasound frame. 16-bit and float grey images are stretched from their own minimum and maximum.

    Raises:
        ImageError: the file is missing, truncated, not an image, larger than ``MAX_PIXELS``, or has no such frame.
        FrameNeededError: the file holds several frames and none is named.
        MissingExtraError: the file is DICOM and pydicom is not installed.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ImageError(f"No such image file: {path}")
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"Cannot read {path}: {error.strerror or error}") from error
    return decode_image(data, name=str(path), frame=frame)


def decode_image(
    data: bytes, *, name: str = "image", max_pixels: int = MAX_PIXELS, frame: int | None = None
) -> UInt8Image:
    """Decode the bytes of an image file; the content decides the format, not the name.

    See `read_image` for the returned array and the errors; ``name`` only appears in messages.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes).")
    if is_dicom(data):
        from sonoedge.edge_runtime.dicom.read import decode_dicom

        return decode_dicom(data, name, max_pixels=max_pixels, frame=frame)
    try:
        with warnings.catch_warnings():
            # Pillow warns above its own pixel limit; our limit is checked below, before any pixel is decoded.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(f"{name} has {width}x{height} pixels. At most {max_pixels:,} pixels are accepted.")
            # Only TIFF has pages. In other formats the first frame is the picture, the rest previews or animation.
            image.seek(chosen_frame(name, image.n_frames if isinstance(image, TiffImageFile) else 1, frame))
            image.load()
            # A phone stores how it was held: turn the picture upright, as browsers and the Android app do.
            return to_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large: at most {max_pixels:,} pixels are accepted.") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not a PNG, JPEG, BMP, TIFF or DICOM image.") from error
    except DECODE_ERRORS as error:
        raise ImageError(f"{name} cannot be decoded: {error}") from error


def is_dicom(data: bytes) -> bool:
    """Whether these bytes start like a DICOM file (PS3.10: 128 bytes of preamble, then ``DICM``)."""
    return data[128:132] == b"DICM"


def to_rgb(image: Image.Image) -> UInt8Image:
    """Convert a decoded Pillow image of any mode to uint8 (height, width, 3) RGB."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        grey = stretch_to_uint8(np.asarray(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in {"LA", "PA", "RGBA", "La", "RGBa"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return np.asarray(image.convert("RGB"))


def resize(image: UInt8Image, size: tuple[int, int]) -> UInt8Image:
    """Stretch an RGB image to the model's input size with Pillow's antialiased bilinear filter.

    Every Pillow from 9.4 on gives the same array. One call for both directions would not: Pillow up to 12 goes
    across first, Pillow 13 goes down first for tall images, and the rounding in between differs by one grey level.
    Each direction is therefore a call of its own, in the order of Pillow 13. The browser and the Android app do the
    same.

    Args:
        image: uint8 (height, width, 3).
        size: (height, width) in pixels.

    Returns:
        uint8 (size[0], size[1], 3).

    Raises:
        ImageError: ``image`` has another dtype or shape.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(
            "Input must be a uint8 RGB image of shape (height, width, 3). "
            f"Received: dtype={image.dtype}, shape={image.shape}."
        )
    if image.shape[:2] == tuple(size):
        return image
    height, width = size
    fewer_rows, fewer_columns = image.shape[0] - height, image.shape[1] - width
    across, down = (width, image.shape[0]), (image.shape[1], height)
    first = down if fewer_rows > max(0, 2 * fewer_columns) else across
    picture = Image.fromarray(image).resize(first, Image.Resampling.BILINEAR)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def to_input(image: UInt8Image, size: tuple[int, int]) -> Float32Array:
    """Resize an RGB image and add the batch axis: float32 (1, height, width, 3), 0–255."""
    return resize(image, size)[None].astype(np.float32)


def find_images(path: str | Path) -> list[Path]:
    """All image files under a folder, sorted, without those in ``masks`` folders; a file is returned as it is."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = (p for p in path.rglob("*") if p.is_file() and is_image_file(p))
    return sorted(p for p in found if "masks" not in p.relative_to(path).parts[:-1])


def is_image_file(path: Path) -> bool:
    """Whether a file counts as an image: by its suffix, or because it starts like a DICOM file.

    On a disc from a hospital's archive, DICOM files have no suffix, or a part of a number in its place. DICOMDIR,
    the table of contents of such a disc, is no image.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return False
    return is_dicom(start) and _DICOMDIR + b"\x02\x00" not in start


def stretch_to_uint8(grey: NDArray[Any]) -> UInt8Image:
    """Stretch grey values of any type and shape to uint8 0–255, from their own finite minimum and maximum."""
    values = grey.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if high <= low:
        return np.zeros(grey.shape, np.uint8)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255.0 / (high - low))
    return np.rint(scaled).astype(np.uint8)
