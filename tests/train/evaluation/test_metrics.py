"""Classification metrics, calibration error and ROC points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import f1_score, precision_score, roc_auc_score

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.evaluation.calibration import expected_calibration_error
from sonoedge.train.evaluation.intervals import (
    wilson,
)
from sonoedge.train.evaluation.metrics import (
    METRIC_NAMES,
    classification_metrics,
    paired_auc_difference,
    roc_points,
    sigmoid,
)
from sonoedge.train.evaluation.thresholds import youden_threshold
from tests.helpers.scores import BOTH, IMAGES, noisy, split


def test_paired_auc_difference() -> None:
    y, logit = noisy(200)
    worse = logit + np.random.default_rng(1).normal(size=200) * 2
    interval = paired_auc_difference(y, logit, worse, num_bootstrap=500)
    assert interval.value == pytest.approx(roc_auc_score(y, worse) - roc_auc_score(y, logit))
    assert interval.low < interval.value < interval.high < 0
    back = paired_auc_difference(y, worse, logit, num_bootstrap=500)
    assert (back.low, back.high) == pytest.approx((-interval.high, -interval.low))


def test_paired_auc_difference_never_claims_certainty() -> None:
    y, logit = noisy(80)
    same = paired_auc_difference(y, logit, 3 * logit + 1, num_bootstrap=50)
    z2 = norm.ppf(0.975) ** 2
    assert same.value == 0
    assert same.high == pytest.approx(z2 / (40 + z2), abs=1e-9) and same.low == pytest.approx(-same.high)
    one_group_each = paired_auc_difference(y, logit, -logit, groups=[f"patient {v}" for v in y], num_bootstrap=50)
    assert one_group_each.high - one_group_each.low > 0.5
    assert math.isnan(paired_auc_difference([1, 1], [0, 1], [1, 0]).value)


@settings(max_examples=60)
@given(IMAGES, st.integers(1, 6), st.floats(0.05, 0.95))
def test_metric_properties(rows: list[tuple[int, float]], group_size: int, threshold: float) -> None:
    y, logit = split(rows)
    groups = [f"case {i // group_size}" for i in range(y.size)]
    result = classification_metrics(y, logit, threshold=threshold, groups=groups, num_bootstrap=25)
    assert tuple(result) == METRIC_NAMES
    for name, interval in result.items():
        if math.isnan(interval.value):
            assert math.isnan(interval.low) and math.isnan(interval.high)
        else:
            assert 0 <= interval.low <= interval.value <= interval.high <= 1, name
            assert interval.low < interval.high, name
    called = sigmoid(logit) >= threshold
    assert result["accuracy"].value == pytest.approx((called == y).mean())
    assert math.isnan(result["auc"].value) == (np.unique(y).size < 2)
    assert math.isnan(result["sensitivity"].value) == (y.sum() == 0)
    if called.any():
        assert result["precision"].value == pytest.approx(precision_score(y, called, zero_division=0))
    if called.any() or y.any():
        assert result["f1"].value == pytest.approx(f1_score(y, called, zero_division=0))


def test_perfect_scores_are_not_certain() -> None:
    y = np.repeat([0, 1], 30)
    result = classification_metrics(y, 8.0 * y - 4, num_bootstrap=200)
    for name in ("accuracy", "auc", "sensitivity", "specificity", "precision", "f1"):
        assert result[name].value == result[name].high == 1
        assert 0.8 < result[name].low < 0.97, name
    assert result["sensitivity"].low == pytest.approx(wilson(30, 30).low)
    views = classification_metrics(y, 8.0 * y - 4, groups=[str(i // 3) for i in range(60)], num_bootstrap=200)
    assert views["sensitivity"].low == pytest.approx(wilson(10, 10).low)
    assert views["auc"].low < result["auc"].low


def test_copies_of_an_image_do_not_narrow_the_intervals() -> None:
    y, logit = noisy(80)
    single = classification_metrics(y, logit, num_bootstrap=400)
    groups = [str(i) for i in range(80)] * 5
    copied = classification_metrics(np.tile(y, 5), np.tile(logit, 5), groups=groups, num_bootstrap=400)
    for name in METRIC_NAMES:
        assert copied[name].value == pytest.approx(single[name].value)
        width, expected = (r[name].high - r[name].low for r in (copied, single))
        assert width == pytest.approx(expected, rel=0.15), name


def test_the_seed_decides() -> None:
    y, logit = noisy(600)
    groups = [str(i // 3) for i in range(600)]
    first = classification_metrics(y, logit, groups=groups, seed=3)
    assert first == classification_metrics(y, logit, groups=groups, seed=3)
    assert first != classification_metrics(y, logit, groups=groups, seed=4)


def test_one_class_gives_nan_without_an_error() -> None:
    result = classification_metrics([1, 1, 1], [-1.0, -2.0, -3.0], num_bootstrap=20)
    undefined = {name for name, interval in result.items() if math.isnan(interval.value)}
    assert undefined == {"auc", "specificity", "precision"}
    assert result["sensitivity"].value == result["f1"].value == 0


@pytest.mark.parametrize(
    ("y", "logit", "message"),
    [
        ([], [], "N at least 1"),
        ([0, 1], [0.0], "same shape"),
        ([[0, 1]], [[0.0, 1.0]], "same shape"),
        ([0, 2], [0.0, 1.0], "0 or 1"),
        ([0, 1], [0.0, math.nan], "finite"),
        ([0, 1], [math.inf, 0.0], "finite"),
    ],
)
def test_unusable_input(y: list, logit: list, message: str) -> None:
    for call in (classification_metrics, youden_threshold, roc_points, expected_calibration_error):
        with pytest.raises(DataError, match=message):
            call(y, logit)
    with pytest.raises(DataError, match=message):
        paired_auc_difference(y, logit, logit)


def test_unusable_options() -> None:
    with pytest.raises(DataError, match="one group per image"):
        classification_metrics([0, 1], [0, 1], groups=["a"])
    with pytest.raises(DataError, match="threshold"):
        classification_metrics([0, 1], [0, 1], threshold=1.5)
    with pytest.raises(DataError, match="resample"):
        classification_metrics([0, 1], [0, 1], num_bootstrap=0)


def test_sigmoid_is_stable() -> None:
    values = sigmoid(np.array([-1e4, -30, 0, 30, 1e4], np.float32))
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, [0, 9.357622968839299e-14, 0.5, 1, 1])


def test_expected_calibration_error() -> None:
    assert expected_calibration_error([0, 1], [0.0, 1.0]) == 0
    assert expected_calibration_error([0, 0, 1, 1], [0.25, 0.25, 0.9, 0.9]) == pytest.approx(0.175)
    assert expected_calibration_error([1, 0], [0.5, 0.5]) == 0
    with pytest.raises(DataError, match="0–1"):
        expected_calibration_error([0, 1], [0.5, 1.5])


@given(BOTH)
def test_roc_points_enclose_the_auc(rows: list[tuple[int, float]]) -> None:
    y, logit = split(rows)
    fpr, tpr, threshold = roc_points(y, logit)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all() and (np.diff(threshold) <= 0).all()
    assert ((threshold >= 0) & (threshold <= 1)).all()
    area = float((np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum())
    assert area == pytest.approx(roc_auc_score(y, logit))
