"""Turned, mirrored, sharpened and rescaled copies by content."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sonoedge.train.data.copies import CopyPair, centre_square, copy_pairs, worst_first
from sonoedge.train.simulation.bmode import draw_case, render


@pytest.fixture(scope="module")
def views() -> list[Image.Image]:
    """Views of twelve different simulated cases."""
    pictures = []
    for number in range(12):
        rng = np.random.default_rng(number)
        grey, _ = render(draw_case(rng, "malignant" if number % 2 else "benign"), rng)
        pictures.append(Image.fromarray(grey).convert("RGB"))
    return pictures


def squares(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([centre_square(np.asarray(picture)) for picture in pictures])


@pytest.mark.long
@pytest.mark.parametrize("angle", [-29.0, -13.5, 0.0, 7.2, 30.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_and_mirrored_copies_are_found_with_their_angle(
    views: list[Image.Image], angle: float, mirrored: bool
) -> None:
    copies = [view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else view for view in views]
    copies = [copy.rotate(angle, Image.Resampling.BILINEAR) for copy in copies]
    pairs = copy_pairs(squares(views + copies))
    count = len(views)
    assert {(pair.first, pair.second) for pair in pairs} == {(i, i + count) for i in range(count)}
    for pair in pairs:
        assert pair.mirrored == mirrored
        assert abs(abs(pair.angle) - abs(angle)) <= 4


@pytest.mark.parametrize("change", ["sharpened", "darker", "smaller", "turned and sharpened"])
def test_processed_copies_are_found(views: list[Image.Image], change: str) -> None:
    def processed(view: Image.Image) -> Image.Image:
        if change == "darker":
            return view.point(lambda value: int(0.6 * value))
        if change == "smaller":
            return view.resize((view.width // 2, view.height // 2))
        turned = view.rotate(-21) if "turned" in change else view
        return turned.filter(ImageFilter.UnsharpMask(2, 150, 0))

    count = len(views)
    pairs = copy_pairs(squares(views + [processed(view) for view in views]))
    assert {(pair.first, pair.second) for pair in pairs} == {(i, i + count) for i in range(count)}


def test_images_without_structure_match_nothing() -> None:
    flat = [Image.new("RGB", (80, 60), (value,) * 3) for value in (0, 128, 255, 255)]
    assert copy_pairs(squares(flat)) == []
    assert copy_pairs(squares(flat[:1])) == []


def test_different_labels_come_first() -> None:
    pairs = [CopyPair(0, 1, 0.99, 0, False), CopyPair(0, 2, 0.8, 3, False), CopyPair(1, 3, 0.9, 3, True)]
    assert worst_first(pairs, [0, 0, 1, 1]) == [pairs[2], pairs[1], pairs[0]]
