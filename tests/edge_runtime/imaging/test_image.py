"""Every accepted kind of file, the one resize rule, and the search for images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.errors import ImageError
from sonoedge.edge_runtime.imaging.image import decode_image, find_images, read_image, resize, to_input
from tests.helpers.pictures import HEIGHT, WIDTH, encode, rgb_pattern


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
