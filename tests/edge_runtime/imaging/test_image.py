"""Decoding of every accepted kind of file, refusal of everything else, and the one resize rule."""

from __future__ import annotations

import io
import random
import struct
import sys
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
from sonoedge.edge_runtime.imaging.image import decode_image, find_images, read_image, resize, to_input

HEIGHT, WIDTH = 40, 56
DICOM_PREFIX = b"\0" * 128 + b"DICM"


def rgb_pattern() -> np.ndarray:
    """Smooth enough for JPEG, different in every channel and not symmetric."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([4 * x, 6 * y, 2 * (x + y)], axis=2).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encode_dicom(pixels: np.ndarray, photometric: str, **attributes: Any) -> bytes:
    """A still image, explicit little endian unless ``syntax`` says otherwise."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = attributes.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    bits = 8 * pixels.dtype.itemsize
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = 0
    dataset.add_new(pydicom.tag.Tag("PixelData"), "OW" if bits == 16 else "OB", pixels.tobytes())
    for name, value in attributes.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def forged_png(width: int, height: int) -> bytes:
    """A PNG with a valid header of any size and next to no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def sample_files() -> dict[str, bytes]:
    image = Image.fromarray(rgb_pattern())
    return {
        "png": encode(image, "PNG"),
        "palette": encode(image.convert("P"), "PNG", transparency=0),
        "jpeg": encode(image, "JPEG"),
        "progressive": encode(image, "JPEG", progressive=True),
        "cmyk": encode(image.convert("CMYK"), "JPEG"),
        "bmp": encode(image, "BMP"),
        "tiff": encode(image, "TIFF"),
        "lzw": encode(image, "TIFF", compression="tiff_lzw"),
        "float": encode(Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)), "TIFF"),
    }


def sample_dicoms() -> dict[str, bytes]:
    pytest.importorskip("pydicom")
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

    rgb = rgb_pattern()
    grey = rgb[..., 0]
    return {
        "grey": encode_dicom(grey, "MONOCHROME2"),
        "wide": encode_dicom(grey.astype(np.uint16) * 200, "MONOCHROME1", WindowCenter="900", WindowWidth="700"),
        "colour": encode_dicom(rgb, "RGB"),
        "implicit": encode_dicom(grey, "MONOCHROME2", syntax=ImplicitVRLittleEndian, StudyDate="20200101"),
        "deflated": encode_dicom(grey, "MONOCHROME2", syntax=DeflatedExplicitVRLittleEndian),
    }


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


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_round_trip(kind: str) -> None:
    decoded = decode_image(encode(Image.fromarray(rgb_pattern()), kind))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, rgb_pattern())


def test_jpeg_round_trip() -> None:
    decoded = decode_image(encode(Image.fromarray(rgb_pattern()), "JPEG", quality=95, subsampling=0))
    assert np.abs(decoded.astype(int) - rgb_pattern()).max() <= 8


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(encode(Image.fromarray(rgb_pattern()), "PNG"))
    np.testing.assert_array_equal(read_image(path), rgb_pattern())
    np.testing.assert_array_equal(read_image(str(path)), rgb_pattern())


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_stretched(kind: str) -> None:
    grey = np.array([[1000, 1500], [2000, 3000]], np.uint16)
    decoded = decode_image(encode(Image.fromarray(grey), kind))
    expected = np.array([[0, 64], [128, 255]], np.uint8)
    np.testing.assert_array_equal(decoded, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("value", [0, 777, 65535])
def test_16_bit_constant_is_black(value: int) -> None:
    decoded = decode_image(encode(Image.fromarray(np.full((3, 4), value, np.uint16)), "PNG"))
    assert decoded.shape == (3, 4, 3)
    assert not decoded.any()


def test_float_tiff_with_non_finite_values() -> None:
    grey = np.array([[-1.0, 0.0, 1.0], [np.nan, np.inf, -np.inf]], np.float32)
    decoded = decode_image(encode(Image.fromarray(grey), "TIFF"))
    np.testing.assert_array_equal(decoded[..., 0], [[0, 128, 255], [0, 255, 0]])


def test_8_bit_grey_is_not_stretched() -> None:
    grey = np.array([[100, 101], [102, 110]], np.uint8)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(grey), "PNG"))[..., 1], grey)


def test_palette_with_transparency_is_black_there() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([200, 10, 20, 30, 210, 40, 50, 60, 220])
    image.putdata([0, 1, 2])
    opaque = decode_image(encode(image, "PNG"))
    np.testing.assert_array_equal(opaque[0], [[200, 10, 20], [30, 210, 40], [50, 60, 220]])
    clear = decode_image(encode(image, "PNG", transparency=1))
    np.testing.assert_array_equal(clear[0], [[200, 10, 20], [0, 0, 0], [50, 60, 220]])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_black(mode: str) -> None:
    colour = (200, 100, 50) if mode == "RGBA" else (200,)
    expected = np.array(colour if mode == "RGBA" else (200, 200, 200))
    pixels = [(*colour, alpha) for alpha in (0, 128, 255)]
    image = Image.new(mode, (3, 1))
    image.putdata(pixels)
    decoded = decode_image(encode(image, "PNG"))[0].astype(float)
    np.testing.assert_array_equal(decoded[0], 0)
    np.testing.assert_allclose(decoded[1], expected * 128 / 255, atol=1)
    np.testing.assert_array_equal(decoded[2], expected)


def test_cmyk_jpeg() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    decoded = decode_image(encode(ink, "JPEG", quality=95))
    np.testing.assert_allclose(decoded.reshape(-1, 3), [[255, 0, 0]] * 256, atol=6)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_1_bit(kind: str) -> None:
    bits = np.eye(9, dtype=bool)
    decoded = decode_image(encode(Image.fromarray(bits), kind))
    np.testing.assert_array_equal(decoded, np.repeat(bits[..., None] * np.uint8(255), 3, axis=2))


def test_a_page_of_a_multi_page_tiff_must_be_named() -> None:
    colours = ((10, 20, 30), (200, 0, 0))
    pages = [Image.new("RGB", (4, 4), colour) for colour in colours]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match="scan holds 2 frames"):
        decode_image(data, name="scan")
    for number, colour in enumerate(colours, start=1):
        decoded = decode_image(data, frame=number)
        assert np.unique(decoded.reshape(-1, 3), axis=0).tolist() == [list(colour)]


def test_dicom_monochrome2_8_bit() -> None:
    grey = rgb_pattern()[..., 0]
    decoded = decode_image(encode_dicom(grey, "MONOCHROME2"))
    np.testing.assert_array_equal(decoded, np.repeat(grey[..., None], 3, axis=2))


def test_dicom_monochrome1_is_inverted() -> None:
    grey = rgb_pattern()[..., 0]
    np.testing.assert_array_equal(decode_image(encode_dicom(grey, "MONOCHROME1"))[..., 2], 255 - grey)


@pytest.mark.parametrize(
    ("photometric", "expected"), [("MONOCHROME2", [0, 128, 255]), ("MONOCHROME1", [255, 127, 0])]
)
def test_dicom_16_bit_is_stretched(photometric: str, expected: list[int]) -> None:
    grey = np.tile(np.array([1000, 2004, 3000], np.uint16), (2, 1))
    decoded = decode_image(encode_dicom(grey, photometric))
    assert decoded.dtype == np.uint8
    assert decoded[0, :, 0].tolist() == expected


def test_dicom_window_clips() -> None:
    grey = np.tile(np.array([0, 1000, 2000, 3000, 60000], np.uint16), (2, 1))
    decoded = decode_image(encode_dicom(grey, "MONOCHROME2", WindowCenter="2000", WindowWidth="2000"))
    assert decoded[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_dicom_rgb_and_deflated() -> None:
    files = sample_dicoms()
    np.testing.assert_array_equal(decode_image(files["colour"]), rgb_pattern())
    np.testing.assert_array_equal(decode_image(files["deflated"])[..., 0], rgb_pattern()[..., 0])


def test_dicom_without_an_image() -> None:
    pytest.importorskip("pydicom")
    with pytest.raises(ImageError, match="without a readable image"):
        decode_image(DICOM_PREFIX + b"\0" * 64)


def test_dicom_that_claims_too_many_pixels() -> None:
    data = encode_dicom(rgb_pattern()[..., 0], "MONOCHROME2", Rows=30000, Columns=30000)
    with pytest.raises(ImageError, match="30000x30000"):
        decode_image(data)


def test_dicom_without_pydicom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"\.\[dicom\]") as caught:
        decode_image(DICOM_PREFIX + b"\0" * 64)
    assert (caught.value.package, caught.value.extra) == ("pydicom", "dicom")


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


@pytest.mark.parametrize("size", [(8, 8), (224, 224), (20, 100), (HEIGHT, WIDTH + 1)])
def test_resize_is_pillows_bilinear_stretch(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    resized = resize(image, size)
    expected = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, np.asarray(expected))


@pytest.mark.parametrize("shape", [(300, 181), (181, 300), (400, 300), (600, 800), (1500, 40), (20, 20)])
@pytest.mark.parametrize("order", ["across first", "down first"])
def test_resize_does_not_depend_on_pillows_order(
    shape: tuple[int, int], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow up to 12 goes across first, 13 goes down first for tall images: one grey level of difference."""
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = resize(image, (224, 224))
    one_call = Image.Image.resize

    def two_passes(self: Image.Image, size: tuple[int, int], resample: int) -> Image.Image:
        middle = (size[0], self.height) if order == "across first" else (self.width, size[1])
        return one_call(one_call(self, middle, resample), size, resample)

    monkeypatch.setattr(Image.Image, "resize", two_passes)
    np.testing.assert_array_equal(resize(image, (224, 224)), expected)


def test_resize_to_its_own_size_changes_nothing() -> None:
    np.testing.assert_array_equal(resize(rgb_pattern(), (HEIGHT, WIDTH)), rgb_pattern())


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
    ],
)
def test_resize_refuses_other_arrays(image: np.ndarray) -> None:
    with pytest.raises(ImageError) as caught:
        resize(image, (4, 4))
    assert str(image.dtype) in str(caught.value)
    assert str(image.shape) in str(caught.value)


def test_to_input() -> None:
    model_input = to_input(rgb_pattern(), (24, 32))
    assert model_input.shape == (1, 24, 32, 3)
    assert model_input.dtype == np.float32
    np.testing.assert_array_equal(model_input[0], resize(rgb_pattern(), (24, 32)))
    white = to_input(np.full((5, 5, 3), 255, np.uint8), (3, 3))
    assert (white.min(), white.max()) == (255.0, 255.0)


def test_find_images(tmp_path: Path) -> None:
    names = ["b.PNG", "a.jpg", "site/c.tiff", "site/masks/d.png", "masks/a.png", "e.txt", "masks.png", "f.dcm"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    found = find_images(tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in found] == [
        "a.jpg", "b.PNG", "f.dcm", "masks.png", "site/c.tiff",
    ]  # fmt: skip
    assert find_images(str(tmp_path / "masks")) == [tmp_path / "masks" / "a.png"]
    assert find_images(tmp_path / "e.txt") == [tmp_path / "e.txt"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation: int) -> None:
    """EXIF orientation is honoured, as in browsers and in the Android app."""
    upright = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    image = Image.fromarray(upright)
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = image.transpose(inverse[orientation]) if orientation in inverse else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(buffer.getvalue()), upright)
