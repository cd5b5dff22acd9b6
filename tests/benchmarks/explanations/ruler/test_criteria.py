"""The measures of the ruler against known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sonoedge.benchmarks.explanations.ruler.controls import edges
from sonoedge.benchmarks.explanations.ruler.criteria import complexity, faithful, located, rank_accuracy
from sonoedge.benchmarks.explanations.ruler.road import impute, road

SPOT = (slice(4, 12), slice(20, 28))


def picture() -> np.ndarray:
    image = np.full((32, 32, 3), 60.0, np.float32)
    image[SPOT] = 220.0
    return image


def score(model_input: np.ndarray) -> float:
    """A probability that rises with the brightness of the spot."""
    return float(1.0 / (1.0 + np.exp(-(model_input[0][SPOT].mean() - 140.0) / 20.0)))


def spot_map(value: float = 1.0) -> np.ndarray:
    found = np.zeros((32, 32), np.float32)
    found[SPOT] = value
    return found


def test_the_right_map_is_faithful_and_its_negative_is_not() -> None:
    right, wrong = (faithful(score, picture(), spot_map(value)) for value in (1.0, -1.0))
    assert right["insertion"] > wrong["insertion"] + 0.1
    assert right["deletion"] < wrong["deletion"] - 0.3
    assert right["road"] == pytest.approx(-wrong["road"], abs=0.05) and right["road"] > 0.5


def test_road_of_an_order_that_knows_nothing() -> None:
    rng = np.random.default_rng(0)
    found = [road(score, picture()[None], rng.random((32, 32)).astype(np.float32), seed) for seed in range(8)]
    assert abs(np.mean(found)) < 0.1


def test_a_removed_pixel_is_the_weighted_mean_of_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    image, removed = rng.random((9, 8, 2)) * 255, rng.random((9, 8)) < 0.5
    filled = impute(image, removed)
    np.testing.assert_array_equal(filled[~removed], image[~removed])
    for y, x in zip(*np.nonzero(removed), strict=True):
        total, weights = np.zeros(2), 0.0
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if (dy, dx) != (0, 0) and 0 <= y + dy < 9 and 0 <= x + dx < 8:
                    weight = 1 / 6 if dy * dx == 0 else 1 / 12
                    total, weights = total + weight * filled[y + dy, x + dx], weights + weight
        np.testing.assert_allclose(filled[y, x], total / weights, rtol=1e-8)


def test_a_plane_is_filled_without_a_trace() -> None:
    """Away from borders a linear picture is its own imputation."""
    image = (np.arange(20.0)[:, None] * 3 + np.arange(20.0)[None, :])[:, :, None]
    removed = np.zeros((20, 20), bool)
    removed[5:14, 6:15] = True
    np.testing.assert_allclose(impute(image, removed), image, atol=1e-8)
    np.testing.assert_allclose(impute(image, np.ones((20, 20), bool)), np.full((20, 20, 1), image.mean()))


def test_peak_mass_and_rank() -> None:
    mask = spot_map() > 0
    assert located(spot_map(), mask) == {"pointing": 1.0, "mass": 1.0, "rank": 1.0}
    assert located(-spot_map(), mask) == {"pointing": 0.0, "mass": 0.0, "rank": 0.0}
    assert all(math.isnan(value) for value in located(spot_map(), None).values())
    half = np.zeros((32, 32), np.float32)
    half[4:8, 20:28] = 2.0
    half[20:24, 0:8] = 1.0
    assert rank_accuracy(half, mask) == 0.5


def test_one_hot_cell_is_sparse_and_equal_cells_are_not() -> None:
    one = np.zeros((24, 24), np.float32)
    one[3, 5] = 1.0
    sparse, flat = complexity(one), complexity(np.ones((24, 24), np.float32))
    assert sparse["sparseness"] == pytest.approx(1 - 1 / 576) and sparse["entropy"] == 0.0
    assert flat["sparseness"] == pytest.approx(0.0, abs=1e-9) and flat["entropy"] == pytest.approx(np.log(576))
    assert math.isnan(complexity(-one)["sparseness"])


def test_edges_are_where_the_grey_changes() -> None:
    found = edges(picture())
    assert found[4:12, 20].mean() > 5 * found[20:, :10].mean()
