"""Damaged, forged and foreign files: an image or an ImageError, nothing else."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from sonoedge.edge_runtime.decode_limits import MAX_PIXELS
from sonoedge.edge_runtime.errors import ImageError, MissingExtraError
from sonoedge.edge_runtime.imaging.image import decode_image, read_image
from tests.helpers.pictures import DICOM_PREFIX, encode, rgb_pattern, sample_dicoms, sample_files


def forged_png(width: int, height: int) -> bytes:
    """A PNG with a valid header of any size and next to no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def decodes_or_refuses(data: bytes) -> bool:
    """True for an image, False for `ImageError`; anything else fails the test."""
    try:
        image = decode_image(data)
    except ImageError:
        return False
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.size > 0
    return True


@pytest.mark.parametrize("kind", sorted(sample_files()))
def test_truncated_files(kind: str) -> None:
    data = sample_files()[kind]
    assert decodes_or_refuses(data)
    results = [decodes_or_refuses(data[: len(data) * tenth // 10]) for tenth in range(10)]
    assert not any(results[:5])


@pytest.mark.parametrize("kind", ["grey", "wide", "colour", "implicit", "deflated"])
def test_truncated_dicoms(kind: str) -> None:
    data = sample_dicoms()[kind]
    assert decodes_or_refuses(data)
    results = [decodes_or_refuses(data[: len(data) * tenth // 10]) for tenth in range(10)]
    assert not any(results[:3])


@pytest.mark.parametrize("family", [sample_files, sample_dicoms])
def test_changed_bytes_give_an_image_or_an_image_error(family: Any) -> None:
    files = family()
    chance = random.Random(0)
    decoded = 0
    for _ in range(800):
        data = bytearray(files[chance.choice(sorted(files))])
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(min(len(data), chance.choice((64, 400, len(data)))))] = chance.randrange(256)
        decoded += decodes_or_refuses(bytes(data))
    assert 0 < decoded < 800


@settings(max_examples=150)
@given(
    prefix=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"II*\0", b"MM\0*", DICOM_PREFIX]
    ),
    data=st.binary(max_size=300),
)
def test_random_bytes_are_refused(prefix: bytes, data: bytes) -> None:
    with pytest.raises((ImageError, MissingExtraError)):
        decode_image(prefix + data)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(ImageError, match=r"empty\.png is empty"):
        read_image(path)


def test_text_named_png(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not an image")
    with pytest.raises(ImageError, match=r"notes\.png is not a PNG, JPEG, BMP, TIFF or DICOM image"):
        read_image(path)


def test_other_formats_are_refused() -> None:
    with pytest.raises(ImageError, match="is not a PNG"):
        decode_image(encode(Image.fromarray(rgb_pattern()), "GIF"))


def test_missing_file_folder_and_overlong_name(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path, tmp_path / ("a" * 5000)):
        with pytest.raises(ImageError):
            read_image(path)


@pytest.mark.parametrize(("width", "height"), [(30000, 30000), (9000, 9000), (MAX_PIXELS + 1, 1)])
def test_forged_size_is_refused_before_any_pixel_is_decoded(
    width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = forged_png(width, height)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("pixels were decoded"))
    with pytest.raises(ImageError, match="pixels"):
        decode_image(data)
