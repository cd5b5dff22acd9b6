"""Names and thumbnails that give copies away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from sonoedge.train.data.grouping import (
    groups_from_pairs,
    is_augmented_name,
    near_duplicate_pairs,
    pairs_with_equal,
    source_key,
    thumbnail,
)

AUGMENTATIONS = (
    "-rotated1",
    "-rotated32",
    "-sharpened",
    "-flipped",
    "_aug3",
    "-augmented2",
    " copy",
    "_copy2",
    " - Copy (2)",
    "_hflip",
    "-rot90",
)


def textured(seed: int, height: int = 120, width: int = 150) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12), dtype=np.uint8))
    grey = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return np.repeat(grey[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("benign (36)-rotated1-sharpened.png", "benign (36)"),
        ("benign (36)-rotated1-rotated2-sharpened.png", "benign (36)"),
        ("malignant (7)-rotated32.PNG", "malignant (7)"),
        ("scan_aug3.jpeg", "scan"),
        ("scan - Copy (2).png", "scan"),
        ("scan_copy2.tif", "scan"),
        ("benign (36).png", "benign (36)"),
        ("bus_0001-l.png", "bus_0001-l"),
        ("carrot.png", "carrot"),
        ("-rotated1.png", "-rotated1"),
        (".png", ".png"),
        ("a.png.png", "a"),
    ],
)
def test_source_key(name: str, key: str) -> None:
    assert source_key(name) == key


@given(st.text(max_size=30))
@example("a-rotated1.png-sharpened.png")
@example("a copy copy")
def test_source_key_is_idempotent_and_a_prefix(name: str) -> None:
    key = source_key(name)
    assert source_key(key) == key
    assert name.startswith(key)
    assert key or not name


@given(
    st.from_regex(r"(benign|malignant|bus_[0-9]{4}-[lr]|case) ?(\([0-9]{1,3}\))?", fullmatch=True),
    st.lists(st.sampled_from(AUGMENTATIONS), min_size=1, max_size=4),
    st.sampled_from([".png", ".JPG", ".tiff", ""]),
)
def test_source_key_undoes_any_chain_of_augmentations(stem: str, chain: list[str], suffix: str) -> None:
    stem = stem.strip()
    name = stem + "".join(chain) + suffix
    assert source_key(name) == stem
    assert is_augmented_name(name)
    assert not is_augmented_name(stem + suffix)


def test_thumbnail_is_normalised_and_blank_images_match_nothing() -> None:
    small = thumbnail(textured(0))
    assert small.shape == (32, 32)
    assert small.dtype == np.float32
    assert abs(float(small.mean())) < 1e-5
    assert float(small.std()) == pytest.approx(1, abs=1e-4)
    blank = thumbnail(np.full((50, 60, 3), 200, np.uint8))
    assert not blank.any()
    assert near_duplicate_pairs(np.stack([blank, blank])) == []


def test_sharpened_brighter_and_rescaled_copies_are_found_and_others_are_not() -> None:
    image = Image.fromarray(textured(1))
    copies = [
        image,
        image.filter(ImageFilter.UnsharpMask(2, 200, 0)),
        image.point(lambda value: value * 0.6 + 60),
        image.resize((300, 240)),
    ]
    others = [Image.fromarray(textured(seed)) for seed in range(2, 12)]
    thumbnails = np.stack([thumbnail(np.asarray(item)) for item in copies + others])
    assert near_duplicate_pairs(thumbnails) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def test_common_depth_trend_is_no_evidence() -> None:
    trend = np.linspace(180, 0, 120)[:, None, None]
    images = [np.clip(trend + textured(seed) * 0.25, 0, 255).astype(np.uint8) for seed in range(6)]
    assert near_duplicate_pairs(np.stack([thumbnail(image) for image in images])) == []


def test_black_corners_of_turned_images_are_no_evidence() -> None:
    turned = [Image.fromarray(textured(seed)).rotate(30) for seed in range(20, 28)]
    copy = turned[0].filter(ImageFilter.SHARPEN)
    thumbnails = np.stack([thumbnail(np.asarray(image)) for image in [*turned, copy]])
    assert near_duplicate_pairs(thumbnails) == [(0, 8)]
    assert (thumbnails[0] == 0).any()


def test_an_image_that_is_nearly_all_surround_matches_nothing() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[28:36, 28:36] = 255
    assert not thumbnail(image).any()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarter_turns", range(4))
def test_turned_and_mirrored_copies_need_the_invariant_search(mirrored: bool, quarter_turns: int) -> None:
    image = textured(3)
    turned = np.rot90(image[:, ::-1] if mirrored else image, quarter_turns)
    thumbnails = np.stack([thumbnail(image), thumbnail(textured(4)), thumbnail(np.ascontiguousarray(turned))])
    assert near_duplicate_pairs(thumbnails, invariant=True) == [(0, 2)]
    same = not mirrored and quarter_turns == 0
    assert near_duplicate_pairs(thumbnails) == ([(0, 2)] if same else [])


def test_blocks_give_the_pairs_of_one_large_product() -> None:
    rng = np.random.default_rng(0)
    thumbnails = rng.standard_normal((1100, 32, 32)).astype(np.float32)
    thumbnails[[600, 1099]] = thumbnails[3]
    assert near_duplicate_pairs(thumbnails) == [(3, 600), (3, 1099), (600, 1099)]
    assert near_duplicate_pairs(thumbnails[:0]) == []


def test_pairs_with_equal_ignores_none() -> None:
    assert pairs_with_equal(["a", None, "b", "a", None, "a"]) == [(0, 3), (0, 5)]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_groups_are_the_connected_components(pairs: list[tuple[int, int]]) -> None:
    groups = groups_from_pairs(20, pairs)
    reach = np.eye(20, dtype=bool)
    for a, b in pairs:
        reach[a, b] = reach[b, a] = True
    for _ in range(5):
        reach = reach @ reach
    assert groups == [int(np.flatnonzero(row)[0]) for row in reach]
