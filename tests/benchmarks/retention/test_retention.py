"""Statistics agree with scikit-learn and SciPy, and verdicts say what the intervals allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk

from sonoedge.benchmarks.retention.retention import METRICS, compare, mcnemar, scores, verdict
from sonoedge.train.evaluation.calibration import reliability
from sonoedge.train.evaluation.intervals import Interval
from sonoedge.train.evaluation.metrics import sigmoid
from tests.helpers.measured_runs import FULL, candidate, make_run, scored_run


@pytest.mark.long
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(4, 60), threshold=st.floats(0.05, 0.95))
def test_agrees_with_scikit_learn(seed: int, count: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    y = np.concatenate([[0, 0, 1, 1], rng.integers(0, 2, count - 4)])
    logits = np.round(rng.normal(0, 2, count) + y, 1)  # rounding makes ties
    run = make_run(y.tolist(), [candidate(FULL, "full", logits=logits, threshold=threshold)])
    found = scores(run, run.candidates[0])
    assert found is not None
    p = sigmoid(logits)
    called = (p >= threshold).astype(int)
    expected = {
        "accuracy": sk.accuracy_score(y, called),
        "balanced_accuracy": sk.balanced_accuracy_score(y, called),
        "sensitivity": sk.recall_score(y, called),
        "specificity": sk.recall_score(1 - y, 1 - called),
        "f1": sk.f1_score(y, called, zero_division=0),
        "auc": sk.roc_auc_score(y, logits),
        "brier": sk.brier_score_loss(y, p),
        "calibration_error": _calibration_error(y, p),
    }
    if called.any():
        expected["precision"] = sk.precision_score(y, called)
    else:
        assert np.isnan(found.metrics["precision"].value)
    for name, value in expected.items():
        assert found.metrics[name].value == pytest.approx(value, abs=1e-12), name
        interval = found.metrics[name]
        assert interval.low <= interval.value <= interval.high
    matrix = sk.confusion_matrix(y, called, labels=[0, 1])
    c = found.confusion
    assert [[c.true_negative, c.false_positive], [c.false_negative, c.true_positive]] == matrix.tolist()
    assert tuple(found.metrics) == METRICS


def _calibration_error(y: np.ndarray, p: np.ndarray) -> float:
    """The definition, bin by bin."""
    total = 0.0
    for k in range(10):
        inside = (p >= k / 10) & ((p < (k + 1) / 10) | (k == 9))
        if inside.any():
            total += inside.mean() * abs(p[inside].mean() - y[inside].mean())
    return float(total)


@given(lost=st.integers(0, 200), gained=st.integers(0, 200))
def test_mcnemar_is_the_exact_binomial_test(lost: int, gained: int) -> None:
    expected = binomtest(min(lost, gained), lost + gained, 0.5).pvalue if lost + gained else 1.0
    assert mcnemar(lost, gained) == pytest.approx(expected, abs=1e-12)


def test_flips_by_class_and_direction() -> None:
    y = np.array([0, 0, 0, 1, 1, 1])
    before = np.array([-1.0, -1, 1, 1, 1, -1])
    after = np.array([1.0, -1, -1, -1, 1, 1])
    r = compare("full", y, (before, 0.5), (after, 0.5), [str(i) for i in range(6)])
    f = r.flips
    assert (f.total, f.negative_to_positive, f.negative_to_negative) == (4, 1, 1)
    assert (f.positive_to_negative, f.positive_to_positive, f.lost, f.gained) == (1, 1, 2, 2)
    assert f.mcnemar_p == 1.0
    assert r.accuracy_kept == 1.0


def test_copies_of_an_image_prove_no_more_than_one() -> None:
    """75 images with 18 copies each: intervals, McNemar's test and the reliability diagram count 75."""
    rng = np.random.default_rng(0)
    y, groups = np.repeat(np.arange(75) % 2, 18), [f"{i // 18:02d}" for i in range(1350)]
    logits = np.repeat(rng.normal(0, 1, 75), 18) + 3.0 * y
    r = compare("full", y, (logits, 0.5), (logits, 0.5), groups)
    assert (r.flips.total, r.flips.groups) == (0, 75)
    assert r.flips.rate.high == pytest.approx(1 - 0.025 ** (1 / 75))
    assert set(r.verdicts.values()) == {"INCONCLUSIVE"}
    # All copies of two images are lost: two events, not 36.
    after = np.where(np.arange(1350) < 36, -np.sign(logits) * 9, logits)
    worse = compare("full", y, (logits, 0.5), (after, 0.5), groups)
    assert worse.flips.mcnemar_p >= 0.5
    assert worse.flips.rate.high > 0.08
    alone = reliability(y, sigmoid(logits), [str(i) for i in range(1350)])
    copied = reliability(y, sigmoid(logits), groups)
    assert all(b.observed.low < a.observed.low for a, b in zip(alone, copied, strict=True) if a.observed.low > 0)


def test_each_side_is_judged_at_its_own_threshold() -> None:
    y = np.array([0, 1, 0, 1])
    logits = np.array([-2.0, -0.5, -1.5, 3.0])
    r = compare("full", y, (logits, 0.5), (logits, float(sigmoid(-1.0))), ["a", "b", "c", "d"])
    assert (r.flips.total, r.flips.positive_to_positive, r.flips.gained) == (1, 1, 1)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.008, 0.01, "PASS"), (-0.009, -0.001, "PASS"), (-0.02, 0.01, "INCONCLUSIVE"), (-0.1, -0.02, "FAIL")],
)
def test_verdict(low: float, high: float, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high), 0.9, 0.99) == expected


def test_few_images_are_never_proof() -> None:
    run = scored_run()
    same = scores(run, run.candidate("same"))
    assert same is not None and same.retention is not None
    assert same.retention.flips.total == 0
    assert same.retention.flips.rate.high == pytest.approx(1 - 0.025 ** (1 / 20))  # 40 images, two a group
    assert set(same.retention.verdicts.values()) == {"INCONCLUSIVE"}
    assert list(same.retention.verdicts) == ["99 %", "99.9 %"]
