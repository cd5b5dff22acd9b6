"""Thresholds: the best, the steady, and those for a sensitivity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.evaluation.metrics import (
    roc_points,
    sigmoid,
)
from sonoedge.train.evaluation.thresholds import steady_threshold, threshold_for_sensitivity, youden_threshold
from tests.helpers.scores import BOTH, split


def rates(y: np.ndarray, logit: np.ndarray, threshold: float) -> tuple[float, float]:
    called = sigmoid(logit) >= threshold
    return float(called[y == 1].mean()), float((~called[y == 0]).mean())


@given(BOTH)
def test_youden_threshold_is_the_best_and_not_a_score(rows: list[tuple[int, float]]) -> None:
    y, logit = split(rows)
    threshold = youden_threshold(y, logit)
    best = max(sum(rates(y, logit, float(p))) for p in [0.0, *sigmoid(logit)])
    assert 0 < threshold < 1
    assert sum(rates(y, logit, threshold)) == pytest.approx(best)
    assert threshold not in sigmoid(logit)


def test_youden_threshold_is_the_midpoint() -> None:
    assert youden_threshold([0, 0, 1, 1], [-2, -1, 2, 3]) == pytest.approx(float(sigmoid(0.5)))


@given(BOTH)
def test_steady_threshold_is_as_good_and_farther_from_the_scores(rows: list[tuple[int, float]]) -> None:
    y, logit = split(rows)
    best, steady = youden_threshold(y, logit), steady_threshold(y, logit)
    hit, rejected = rates(y, logit, best)
    error = (hit * (1 - hit) / (y == 1).sum() + rejected * (1 - rejected) / (y == 0).sum()) ** 0.5
    assert sum(rates(y, logit, steady)) >= hit + rejected - error - 1e-9
    nearest = [np.abs(logit - np.log(p / (1 - p))).min() for p in (steady, best)]
    # Below all scores lies no gap between two of them.
    assert nearest[0] >= nearest[1] - 1e-6 or sigmoid(logit).min() > best


def test_steady_threshold_leaves_a_narrow_gap() -> None:
    benign, malignant = [*range(-11, -2), 0.0, 20.0, 21.0], [0.1, *range(2, 11)]
    y, logit = [0] * len(benign) + [1] * len(malignant), [*benign, *malignant]
    assert youden_threshold(y, logit) == pytest.approx(float(sigmoid(0.05)))
    # One benign image of twelve more is called, less than one standard error of the best J, 0.108.
    assert steady_threshold(y, logit) == pytest.approx(float(sigmoid(-1.5)))


@given(BOTH, st.floats(0.01, 1.0))
def test_threshold_for_sensitivity(rows: list[tuple[int, float]], wanted: float) -> None:
    y, logit = split(rows)
    threshold = threshold_for_sensitivity(y, logit, wanted)
    reached, specificity = rates(y, logit, threshold)
    assert reached >= wanted - 1e-9
    for p in sigmoid(logit):
        other, better = rates(y, logit, float(p))
        assert other < wanted or better <= specificity + 1e-9


def test_thresholds_need_both_classes() -> None:
    for call in (youden_threshold, roc_points):
        with pytest.raises(DataError, match="only label 1"):
            call([1, 1], [0.0, 1.0])
    with pytest.raises(DataError, match="sensitivity"):
        threshold_for_sensitivity([0, 1], [0.0, 1.0], 0.0)
