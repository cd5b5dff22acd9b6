"""Lesion masks: how they are found, and their sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.imaging.masks import find_mask, read_mask


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("high", [1, 255])
def test_read_mask_of_another_size(tmp_path: Path, high: int) -> None:
    array = np.zeros((10, 20), np.uint8)
    array[2:5, 5:10] = high
    found = read_mask(save(tmp_path / "m.png", array), (40, 80))
    wanted = np.zeros((40, 80), bool)
    wanted[8:20, 20:40] = True
    np.testing.assert_array_equal(found, wanted)


def test_read_mask_of_another_shape(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.zeros((10, 20), np.uint8))
    with pytest.raises(DataError, match="20x10 for an image of 80x80"):
        read_mask(path, (80, 80))
    assert not read_mask(path, (40, 80)).any()


def test_read_mask_allows_a_pixel_of_rounding(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.full((241, 320), 255, np.uint8))
    assert read_mask(path, (361, 480)).all()


def test_find_mask(tmp_path: Path) -> None:
    same = save(tmp_path / "masks" / "benign" / "x.png", np.zeros((2, 2), np.uint8))
    flat = save(tmp_path / "masks" / "y.png", np.zeros((2, 2), np.uint8))
    other = save(tmp_path / "masks" / "malignant" / "x.png", np.zeros((2, 2), np.uint8))
    masks = tmp_path / "masks"
    assert find_mask(masks, Path("data/benign/x.png")) == same
    assert find_mask(masks, Path("data/malignant/x.jpg")) == other
    assert find_mask(masks, Path("data/benign/y.jpg")) == flat
    assert find_mask(masks, Path("data/benign/z.png")) is None
    assert find_mask(flat, Path("data/benign/z.png")) == flat
