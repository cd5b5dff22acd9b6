"""The head by logistic regression, written into dense layers with ReLU."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.evaluation.metrics import sigmoid
from sonoedge.train.fitting.feature_set import FeatureSet
from sonoedge.train.fitting.heads import LOGISTIC, fit_default, head_logits
from sonoedge.train.fitting.logistic import logistic_regression, map_variances, write_linear
from sonoedge.train.models.fusion import Head, HeadSpec, build_head


def head_of(units: tuple[int, ...], channels: int = 6) -> Head:
    return build_head({"a": (channels,)}, HeadSpec(units=units))


@settings(max_examples=12)
@given(
    units=st.lists(st.integers(2, 20), max_size=3).map(tuple), rows=st.integers(2, 40), seed=st.integers(0, 10_000)
)
def test_dense_layers_of_any_widths_compute_the_line_exactly(units: tuple[int, ...], rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6)).astype(np.float32)
    weights, intercept = rng.normal(size=6), float(rng.normal())
    head = head_of(units)
    write_linear(head.head, weights, intercept, x, seed=seed)
    new = rng.normal(size=(50, 6)).astype(np.float32)
    found = keras.ops.convert_to_numpy(head.head_logit([new], training=False))[:, 0]
    np.testing.assert_allclose(found, new @ weights + intercept, atol=2e-4)


def test_hidden_units_are_directions_and_their_mirror_images() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(200, 6)) * [9, 5, 1, 1, 1, 1]).astype(np.float32)
    head = head_of((6,))
    write_linear(head.head, rng.normal(size=6), 0.0, x, seed=0)
    kernel = head.head.get_layer("fc1").get_weights()[0]
    np.testing.assert_allclose(kernel[:, :3], -kernel[:, 3:6], atol=1e-6)
    # The first two are where the features vary most.
    assert abs(kernel[0, 0]) > 0.95
    assert abs(kernel[1, 1]) > 0.95


def test_a_hidden_layer_of_one_unit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--units must be at least 2\. Received: 1"):
        write_linear(head_of((1,)).head, np.ones(6), 0.0, np.zeros((4, 6), np.float32), seed=0)


def test_the_fit_is_the_optimum_and_does_not_depend_on_the_seed() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 6)).astype(np.float32)
    y = (rng.random(300) < sigmoid(x @ np.array([2, -1, 0, 0, 0, 0.5]))).astype(np.int64)
    weights, intercept = logistic_regression(x, y, np.full(6, 0.5))
    # At the optimum the slope of the log likelihood equals that of the prior.
    residual = y - sigmoid(x @ weights + intercept)
    np.testing.assert_allclose(x.T @ residual, weights / 0.5, atol=0.05)
    assert abs(residual.sum()) < 0.05
    rows = FeatureSet({"a": x}, y)
    logits = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        head = head_of((16,))
        fit_default(head, rows, rows, seed=seed, progress=False)
        logits.append(head_logits(head, rows))
    np.testing.assert_allclose(*logits, atol=1e-3)


def test_views_of_one_image_count_as_one_image() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=60) > 0).astype(np.int64)
    prior = np.full(4, LOGISTIC.logistic)
    once, _ = logistic_regression(x, y, prior)
    tiled, _ = logistic_regression(np.tile(x, (3, 1)), np.tile(y, 3), prior, rows_per_image=3)
    np.testing.assert_allclose(tiled, once, atol=1e-3)


def test_class_weights_move_the_intercept() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    y = (np.arange(200) < 30).astype(np.int64)
    _, plain = logistic_regression(x, y, np.full(4, 0.03))
    _, balanced = logistic_regression(x, y, np.full(4, 0.03), balanced=True)
    assert plain < -1
    assert abs(balanced) < 0.3


def test_every_map_says_as_much_beforehand() -> None:
    variances = map_variances((2, 8, 5), 0.03)
    assert variances.shape == (15,)
    totals = [variances[:2].sum(), variances[2:10].sum(), variances[10:].sum()]
    np.testing.assert_allclose(totals, [0.15] * 3)
    np.testing.assert_allclose(map_variances((7,), 0.03), np.full(7, 0.03))
