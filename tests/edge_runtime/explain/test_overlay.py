"""Overlays, contours and panels, and the colours of a map."""

from __future__ import annotations

import numpy as np
import pytest

from sonoedge.edge_runtime.explain.colormap import COLORMAP
from sonoedge.edge_runtime.explain.gradcam import (
    contour,
    heat_map,
    overlay,
    panel,
    unit_map,
)


def test_overlay_leaves_cold_regions() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    before = image.copy()
    heat = np.zeros((30, 40), np.float32)
    heat[10:20, 10:30] = np.linspace(0.2, 1.0, 20, dtype=np.float32)
    drawn = overlay(image, heat)
    assert drawn.dtype == np.uint8
    assert drawn.shape == image.shape
    np.testing.assert_array_equal(drawn[heat == 0], image[heat == 0])
    assert (drawn[heat > 0] != image[heat > 0]).any()
    np.testing.assert_array_equal(image, before)


def test_overlay_opacity() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    hot = np.ones((4, 4), np.float32)
    np.testing.assert_array_equal(overlay(image, hot, opacity=0.0), image)
    opaque = overlay(image, hot, opacity=1.0)
    np.testing.assert_array_equal(opaque[0, 0], np.rint(COLORMAP[255]))
    half = overlay(image, hot, opacity=0.5)[0, 0].astype(float)
    np.testing.assert_allclose(half, (100 + COLORMAP[255]) / 2, atol=0.51)


@pytest.mark.parametrize("value", [0, 255])
def test_constant_image(value: int) -> None:
    image = np.full((20, 30, 3), value, np.uint8)
    np.testing.assert_array_equal(overlay(image, np.zeros((20, 30), np.float32)), image)
    hot = overlay(image, np.ones((20, 30), np.float32)).astype(float)
    np.testing.assert_allclose(hot, np.broadcast_to((value + COLORMAP[255]) / 2, hot.shape), atol=0.51)


def test_colour_table_rises_in_lightness() -> None:
    assert COLORMAP.shape == (256, 3)
    assert COLORMAP.min() >= 0
    assert COLORMAP.max() <= 255
    assert (np.diff(COLORMAP @ [0.2126, 0.7152, 0.0722]) > 0).all()


def test_contour_with_a_mask_of_another_size() -> None:
    image = np.full((40, 80, 3), 9, np.uint8)
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    drawn = contour(image, mask, (0, 255, 0))
    green = (drawn == (0, 255, 0)).all(axis=2)
    expected = np.zeros((40, 80), bool)
    expected[10:30, 20:60] = True
    expected[11:29, 21:59] = False
    np.testing.assert_array_equal(green, expected)
    np.testing.assert_array_equal(drawn[~green], image[~green])
    assert (image == 9).all()


@pytest.mark.parametrize("filled", [True, False])
def test_contour_of_a_mask_without_an_edge(filled: bool) -> None:
    image = np.full((8, 8, 3), 9, np.uint8)
    np.testing.assert_array_equal(contour(image, np.full((3, 3), filled)), image)


def test_panel_is_image_and_overlays_side_by_side() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    heats = [heat_map(np.eye(3, dtype=np.float32), (12, 20)), np.eye(2, dtype=np.float32)]
    drawn = panel(image, heats)
    assert drawn.shape == (12, 68, 3)
    np.testing.assert_array_equal(drawn[:, :20], image)
    np.testing.assert_array_equal(drawn[:, 20:24], 255)
    np.testing.assert_array_equal(drawn[:, 24:44], overlay(image, heats[0]))
    np.testing.assert_array_equal(drawn[:, 48:], overlay(image, heats[1]))
    mask = np.zeros((6, 10), bool)
    mask[2:4, 3:7] = True
    outlined = panel(image, heats[:1], mask)
    np.testing.assert_array_equal(outlined[:, :20], contour(image, mask))
    np.testing.assert_array_equal(outlined[:, 24:], contour(overlay(image, heats[0]), mask))


def test_a_small_map_is_drawn_like_the_large_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 131, 3), dtype=np.uint8)
    cam = np.maximum(np.random.default_rng(1).normal(size=(7, 7)), 0).astype(np.float32)
    small = overlay(image, unit_map(cam, (90, 131))).astype(int)
    large = overlay(image, heat_map(cam, (90, 131))).astype(int)
    assert np.abs(small - large).max() <= 1
