"""The weighted AUC, and resamples of whole groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import roc_auc_score

from sonoedge.train.evaluation.bootstrap import resamples, weighted_auc
from tests.helpers.scores import BOTH, noisy, split


@given(BOTH)
def test_auc_equals_scikit_learn(rows: list[tuple[int, float]]) -> None:
    y, logit = split(rows)
    assert weighted_auc(y, logit, np.ones((1, y.size)))[0] == pytest.approx(roc_auc_score(y, logit))


def test_weighted_auc_equals_scikit_learn_on_resamples() -> None:
    y, logit = noisy(40)
    logit = np.round(logit, 1)
    weights = next(resamples(y, np.arange(40) // 2, 30, seed=1))
    expected = [roc_auc_score(y, logit, sample_weight=row) for row in weights]
    np.testing.assert_allclose(weighted_auc(y, logit, weights), expected)


def test_resamples_draw_whole_groups_within_each_class() -> None:
    y = np.array([0, 0, 0, 1, 1, 1, 1, 0, 1])
    group = np.array([0, 0, 1, 2, 2, 3, 4, 5, 5])  # group 5 holds both classes
    weights = np.concatenate(list(resamples(y, group, 200, seed=0)))
    assert weights.shape == (200, 9)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    np.testing.assert_array_equal(weights[:, 3], weights[:, 4])
    np.testing.assert_array_equal(weights[:, 0] + weights[:, 2], 2)
    np.testing.assert_array_equal(weights[:, 3] + weights[:, 5] + weights[:, 6], 3)
    np.testing.assert_array_equal(weights[:, 7:], 1)
