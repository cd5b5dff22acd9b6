"""Finding the scan on a screen, and what a crop leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.imaging.quality import hints, measure
from sonoedge.edge_runtime.imaging.region import detect_region, parse_crop
from sonoedge.edge_runtime.types import Region


def screen(scan: Region, height: int = 480, width: int = 640, seed: int = 0) -> np.ndarray:
    """A dark screen with a speckled rectangle, lines of text at the top and a ruler at the right."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width), np.uint8)
    image[scan.top : scan.bottom, scan.left : scan.right] = rng.integers(
        20, 160, (scan.bottom - scan.top, scan.right - scan.left)
    )
    image[8:18, 10:200:4] = 255
    image[8:18, 420:600:5] = 200
    image[60:460:20, 618:626] = 255
    return np.repeat(image[..., None], 3, axis=2)


@pytest.mark.parametrize("scan", [Region(100, 60, 560, 440), Region(40, 100, 300, 470), Region(220, 52, 590, 300)])
def test_text_and_rulers_stay_outside(scan: Region) -> None:
    found = detect_region(screen(scan))
    assert found is not None
    for name in ("left", "top", "right", "bottom"):
        assert abs(getattr(found, name) - getattr(scan, name)) <= 3, (found, scan)


def test_a_sector_is_boxed() -> None:
    y, x = np.mgrid[0:400, 0:600]
    inside = (np.hypot(y - 20, x - 300) < 340) & (np.abs(x - 300) < 0.7 * (y - 10)) & (y > 40)
    image = np.where(inside, 90, 0).astype(np.uint8)
    found = detect_region(np.repeat(image[..., None], 3, axis=2))
    assert found is not None
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert abs(found.top - rows[0]) < 12
    assert abs(found.bottom - rows[-1]) < 4
    assert abs(found.left - columns[0]) < 6
    assert abs(found.right - columns[-1]) < 6


@pytest.mark.parametrize("value", [0, 90])
def test_no_region_in_a_blank_or_full_frame(value: int) -> None:
    assert detect_region(np.full((120, 160, 3), value, np.uint8)) is None


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_region_lies_in_its_picture(height: int, width: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    image = (rng.random((height, width, 3)) < share).astype(np.uint8) * 200
    if (found := detect_region(image)) is not None:
        assert 0 <= found.left < found.right <= width
        assert 0 <= found.top < found.bottom <= height
        assert found.crop(image).size


def test_the_outline_shows_what_was_cut() -> None:
    image = np.full((40, 60, 3), 90, np.uint8)
    drawn = Region(10, 5, 50, 35).outline(image)
    assert drawn[0, 0].tolist() == [30, 30, 30]
    assert drawn[5, 30].tolist() == [0, 255, 0]
    assert drawn[20, 30].tolist() == [90, 90, 90]
    assert image[5, 30].tolist() == [90, 90, 90]


def test_crops_on_the_command_line() -> None:
    assert parse_crop("auto") == "auto"
    assert parse_crop("1,2,30,40") == Region(1, 2, 30, 40)


@pytest.mark.parametrize("text", ["", "all", "1,2,3", "5,5,5,9", "-1,0,4,4", "a,b,c,d", "1.5,0,4,4"])
def test_other_crops_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="A crop is"):
        parse_crop(text)


def speckle(level: float = 80.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    grey = np.clip(level * rng.gamma(12.0, 1 / 12.0, (200, 260)), 0, 255).astype(np.uint8)
    grey[:, :60] //= 3
    return np.repeat(grey[..., None], 3, axis=2)


def codes(image: np.ndarray) -> set[str]:
    return set(hints(image, measure(image)))


def test_quality_hints() -> None:
    good = speckle()
    assert codes(good) == set()
    assert "dark" in codes(speckle(12.0))
    assert "bright" in codes(np.full((200, 200, 3), 250, np.uint8))
    assert "flat" in codes(np.full((200, 200, 3), 90, np.uint8))
    assert "small" in codes(good[:50, :50])
    coloured = good.copy()
    coloured[:80, :120] = (200, 30, 30)
    assert "colour" in codes(coloured)
    y, x = np.mgrid[0:200, 0:260]
    smooth = (60 + 40 * np.sin(x / 50) + 40 * np.cos(y / 60)).astype(np.uint8)
    assert "speckle" in codes(np.repeat(smooth[..., None], 3, axis=2))
    written = good.copy()
    written[20:40, 20:200:6] = 0
    written[20:40, 21:200:6] = 255
    assert "overlay" in codes(written)


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 900, 3), (1, 5000, 3)])
def test_quality_of_odd_shapes(shape: tuple[int, ...]) -> None:
    quality = measure(np.full(shape, 7, np.uint8))
    assert quality.brightness == 7.0
    assert quality.speckle == 0.0
