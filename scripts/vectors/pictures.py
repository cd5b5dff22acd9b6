"""Vectors of a picture's way to the model: decoding, orientation, resizing, quality."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from scripts.vectors.generated import DRAWN, drawn, noise, pack
from sonoedge.edge_runtime.errors import ImageError
from sonoedge.edge_runtime.imaging.image import decode_image, resize
from sonoedge.edge_runtime.imaging.quality import hints, measure

# (height, width) -> (height, width): smaller, larger, one pixel, a line, unchanged, odd, one axis only, a phone's,
# and tall ones, which Pillow 13 resizes down before across.
_RESIZES = [
    ((48, 64), (32, 32)),
    ((20, 30), (48, 48)),
    ((1, 1), (5, 7)),
    ((3, 200), (40, 4)),
    ((32, 32), (32, 32)),
    ((33, 65), (32, 65)),
    ((61, 40), (61, 23)),
    ((768, 1024), (48, 48)),
    ((64, 50), (48, 48)),
    ((170, 44), (32, 32)),
]


def resize_vectors() -> list[dict[str, Any]]:
    """Pictures resized by `edge_runtime.imaging.image.resize`."""
    return [
        {"source": list(source), "seed": seed, "resized": pack(resize(noise(*source, seed), size))}
        for seed, (source, size) in enumerate(_RESIZES, start=1)
    ]


def quality_vectors() -> list[dict[str, Any]]:
    """Measures and hints of `drawn` pictures by `edge_runtime.imaging.quality`."""
    cases = []
    for kind, height, width, seed in DRAWN:
        picture = drawn(kind, height, width, seed)
        quality = measure(picture)
        cases.append(
            {"picture": [kind, height, width, seed], **asdict(quality), "hints": list(hints(picture, quality))}
        )
    return cases


def picture_files() -> dict[str, bytes]:
    """Bytes by file name: pictures of every kind that a phone may hand over, and some files that are none."""
    rgb = Image.fromarray(noise(24, 32))
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(noise(24, 32, 9)[:, :, 0] * 2))
    smooth = Image.fromarray(noise(6, 8)).resize((32, 24), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    png = _encode(rgb, "PNG")
    # A real header that promises 20000x20000 pixels: refused before a pixel is decoded.
    huge = png[:16] + (20_000).to_bytes(4, "big") * 2 + png[24:]
    return {
        "rgb.png": png,
        "grey.png": _encode(rgb.convert("L"), "PNG"),
        "palette.png": _encode(rgb.quantize(16), "PNG"),
        "alpha.png": _encode(alpha, "PNG"),
        "photo.jpg": _encode(smooth, "JPEG", quality=95),
        "exif6.jpg": _encode(smooth, "JPEG", quality=95, exif=exif.tobytes()),
        "truncated.png": png[: len(png) // 2],
        "text.png": b"not a picture\n",
        "empty.png": b"",
        "huge.png": _checksum(huge),
    }


def picture_vectors(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Pictures decoded by `edge_runtime.imaging.image.decode_image`; null if it refuses the file."""
    cases: list[dict[str, Any]] = []
    for name, data in files.items():
        try:
            cases.append({"file": name, "rgb": pack(decode_image(data, name=name))})
        except ImageError:
            cases.append({"file": name, "rgb": None})
    return cases


def orientation_vectors() -> list[dict[str, Any]]:
    """Upright pictures of the eight EXIF orientations, by Pillow."""
    cases = []
    for orientation in range(1, 9):
        image = Image.fromarray(noise(3, 5))
        image.getexif()[0x0112] = orientation
        upright = ImageOps.exif_transpose(image)
        cases.append({"source": [3, 5], "orientation": orientation, "upright": pack(np.asarray(upright))})
    return cases


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _checksum(png: bytes) -> bytes:
    """The PNG with the CRC of its header chunk corrected."""
    import zlib

    return png[:29] + zlib.crc32(png[12:29]).to_bytes(4, "big") + png[33:]
