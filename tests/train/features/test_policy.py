"""Augmented training images: the lesion stays in the picture, mask and image move together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.features.policy import Mask, another_scanner, changed, find_policy


def scene(height: int, width: int, box: tuple[int, int, int, int]) -> tuple[np.ndarray, Mask]:
    """A grey picture with a bright lesion, and its mask."""
    mask = np.zeros((height, width), bool)
    top, bottom, left, right = box
    mask[top:bottom, left:right] = True
    image = np.where(mask, 200, 60).astype(np.uint8)
    return np.repeat(image[..., None], 3, axis=2), mask


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(40, 240),
    width=st.integers(40, 240),
    spot=st.tuples(*[st.floats(0, 0.9)] * 2),
    size=st.tuples(*[st.floats(0.02, 0.9)] * 2),
)
def test_the_lesion_stays_in_the_picture(
    seed: int, height: int, width: int, spot: tuple[float, float], size: tuple[float, float]
) -> None:
    top, left = int(spot[0] * height), int(spot[1] * width)
    bottom, right = min(height, top + 1 + int(size[0] * height)), min(width, left + 1 + int(size[1] * width))
    image, mask = scene(height, width, (top, bottom, left, right))
    result, kept = another_scanner(image, mask, np.random.default_rng(seed))
    assert kept is not None
    assert result.dtype == np.uint8
    assert result.shape == (*kept.shape, 3)
    assert kept.sum() == mask.sum()


def test_image_and_mask_move_together() -> None:
    image, mask = scene(120, 160, (30, 70, 20, 60))
    for seed in range(20):
        result, kept = another_scanner(image, mask, np.random.default_rng(seed))
        assert kept is not None
        grey = result[..., 0].astype(float)
        assert grey[kept].mean() > grey[~kept].mean() + 20


def test_a_seed_gives_one_picture_and_seeds_differ() -> None:
    image, mask = scene(90, 120, (30, 60, 40, 80))
    first, again, other = (another_scanner(image, mask, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_never_upside_down() -> None:
    image, mask = scene(100, 100, (70, 90, 40, 60))
    rows = []
    for seed in range(30):
        _, kept = another_scanner(image, mask, np.random.default_rng(seed))
        assert kept is not None
        rows.append(np.flatnonzero(kept.any(axis=1)).mean() / kept.shape[0])
    assert np.mean(rows) > 0.6


@pytest.mark.parametrize("mask", [None, np.zeros((60, 80), bool)])
def test_images_without_a_lesion(mask: Mask | None) -> None:
    image = np.full((60, 80, 3), 90, np.uint8)
    for seed in range(10):
        result, kept = another_scanner(image, mask, np.random.default_rng(seed))
        assert min(result.shape[:2]) >= 20
        assert (kept is None) == (mask is None)


def mirrored(image: np.ndarray, mask: Mask | None, rng: np.random.Generator) -> tuple[np.ndarray, Mask | None]:
    return image[:, ::-1], None if mask is None else mask[:, ::-1]


def floats(image: np.ndarray, mask: Mask | None, rng: np.random.Generator) -> tuple[np.ndarray, Mask | None]:
    return image / 255.0, mask


def alone(image: np.ndarray, mask: Mask | None, rng: np.random.Generator) -> np.ndarray:
    return image


NUMBER = 3


def test_a_policy_of_ones_own() -> None:
    image, mask = scene(20, 30, (5, 10, 2, 8))
    policy = find_policy(f"{__name__}:mirrored")
    result, kept = changed(policy, image, mask, np.random.default_rng(0))
    assert np.array_equal(result, image[:, ::-1])
    assert kept is not None
    assert np.array_equal(kept, mask[:, ::-1])
    assert find_policy(None) is another_scanner


@pytest.mark.parametrize("name", ["nowhere:policy", f"{__name__}:missing", f"{__name__}:NUMBER", "", "sonoedge"])
def test_a_policy_that_cannot_be_found(name: str) -> None:
    with pytest.raises(UsageError, match=r"takes MODULE:FUNCTION. Received"):
        find_policy(name)


@pytest.mark.parametrize("name", ["floats", "alone"])
def test_a_policy_that_returns_something_else(name: str) -> None:
    image, mask = scene(20, 30, (5, 10, 2, 8))
    with pytest.raises(UsageError, match="must return an image"):
        changed(find_policy(f"{__name__}:{name}"), image, mask, np.random.default_rng(0))
