"""What a comparison of two files counts: flips, intervals, verdicts, thresholds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoedge.edge_runtime.proportion import GroupedCount
from sonoedge.export.guard.comparison import Budget, Comparison, compare, refit_threshold
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.evaluation.intervals import Interval
from sonoedge.train.evaluation.metrics import sigmoid
from tests.helpers.int8_models import SURE, comparison, counted

LOGITS = st.lists(st.floats(-8, 8), min_size=4, max_size=40)


def dataset(labels: list[int]) -> Dataset:
    samples = tuple(
        Sample(Path(f"{i}.png"), f"{i}.png", y, f"g{i}", f"{i:064x}", None) for i, y in enumerate(labels)
    )
    return Dataset({"": Path()}, ("benign", "malignant"), samples)


def alternating(count: int) -> list[int]:
    return [i % 2 for i in range(count)]


@given(LOGITS, st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_a_refitted_threshold_keeps_the_sensitivity_where_any_can(
    values: list[float], seed: int, noise: float
) -> None:
    reference = np.array(values)
    y = np.array(alternating(len(values)))
    logits = reference + noise * np.random.default_rng(seed).standard_normal(len(values))
    threshold = refit_threshold(y, reference, logits, 0.5)
    wanted = int((sigmoid(reference[y == 1]) >= 0.5).sum())
    kept = int((sigmoid(logits[y == 1]) >= threshold).sum())
    # Ties between malignant scores can make a sensitivity unreachable; then the threshold stays.
    assert kept == wanted or threshold == 0.5


def test_a_threshold_moves_no_further_than_it_must() -> None:
    """One malignant image falls just below it, and the next score is far away: no reason to go half-way."""
    reference = np.array([-4.0, -3.0, -2.0, 0.05, 2.0, 3.0])
    logits = np.array([-4.0, -3.0, -2.0, -0.05, 2.0, 3.0])
    threshold = refit_threshold(np.array([0, 0, 0, 1, 1, 1]), reference, logits, 0.5)
    assert 0.4 < threshold < sigmoid(-0.05)


@given(LOGITS)
def test_nothing_changed_nothing_lost(values: list[float]) -> None:
    logits = np.array(values)
    found = compare(dataset(alternating(len(values))), logits, 0.4, logits.copy())
    assert (found.flipped, found.threshold, found.logit_error) == (0, 0.4, 0)
    assert found.within(Budget(0, 0))
    # 40 images without a flip still allow 9 %: never a PASS at 1 %.
    assert found.flips.high > 0.01
    assert found.verdict(Budget(0.01, 0.01)) == "INCONCLUSIVE"
    assert found.verdict(Budget(1, 1)) == "PASS"


def test_expected_flips_see_what_a_lucky_count_hides() -> None:
    """No image flips, but the errors are as large as half of the margins."""
    margins = np.repeat([-1.0, 1.0, -3.0, 3.0], 10)
    errors = np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0, 2.0], 4) * (np.abs(margins) > 2)
    found = compare(dataset(alternating(40)), margins, 0.5, margins + errors)
    assert found.flipped == 0
    # 4 of 40 errors are large, half of them in the harmful direction, for half of the images.
    assert found.expected_flips == pytest.approx(2 / 40 * 20 / 40)
    assert not found.within(Budget(1, 0.02))
    assert found.within(Budget(1, 0.03))


@pytest.mark.parametrize("found", [comparison(0, 0, accuracy=-0.02), comparison(0, 0, auc=-0.02), comparison(2, 0)])
def test_each_part_of_the_budget_counts(found: Comparison) -> None:
    assert not found.within(Budget(0.01, 0.01))
    assert found.within(Budget(0.02, 0.02))


@pytest.mark.parametrize(
    ("flips", "accuracy", "auc", "expected"),
    [
        (counted(0, 400), SURE, SURE, "PASS"),
        (counted(0, 1350), SURE, SURE, "PASS"),
        # The same images as 18 copies each of 75: an AUC by group and flips by image said PASS.
        (counted(0, 1350, 18), SURE, SURE, "INCONCLUSIVE"),
        # Outside by the point estimate, but the interval crosses the budget.
        (counted(2, 100), SURE, SURE, "INCONCLUSIVE"),
        (counted(40, 400), SURE, SURE, "FAIL"),
        (counted(0, 400), SURE, Interval(-0.02, -0.04, -0.015), "FAIL"),
        (counted(0, 400), SURE, Interval(-0.02, -0.04, 0.0), "INCONCLUSIVE"),
        (counted(0, 400), Interval(-0.03, -0.05, -0.02), SURE, "FAIL"),
        # So few flips cannot cost 1 % of the accuracy, whatever the labelled images leave open.
        (counted(0, 400), Interval(0.0, -0.05, 0.05), SURE, "PASS"),
        (counted(0, 400), SURE, Interval(float("nan"), float("nan"), float("nan")), "INCONCLUSIVE"),
    ],
)
def test_verdicts_come_from_whole_intervals_by_group(
    flips: GroupedCount, accuracy: Interval, auc: Interval, expected: str
) -> None:
    found = Comparison(np.zeros(flips.images), 0.5, flips, accuracy, auc, 0.0)
    assert found.verdict(Budget()) == expected


def test_groups_of_the_validation_images_count_in_the_comparison() -> None:
    labels = alternating(1350)
    copies = dataset(labels)
    grouped = replace(
        copies, samples=tuple(replace(s, group=f"source {i // 18}") for i, s in enumerate(copies.samples))
    )
    logits = np.linspace(-4, 4, 1350)
    alone, found = (compare(d, logits, 0.5, logits + 1e-9) for d in (copies, grouped))
    assert (alone.flipped, found.flipped) == (0, 0)
    assert alone.verdicts(Budget())["flips"] == "PASS"
    assert found.verdicts(Budget())["flips"] == "INCONCLUSIVE"
    assert found.flips.high == pytest.approx(1 - 0.025 ** (1 / 75))
    assert found.accuracy_difference.low < -0.04 < alone.accuracy_difference.low
    assert found.missing(Budget()) == 368 - 75


def test_unlabelled_frames_make_the_verdict_certain() -> None:
    flips = GroupedCount.of(np.zeros(95, bool), [f"g{min(i, 70)}" for i in range(95)])
    found = Comparison(np.zeros(95), 0.5, flips, Interval(0.0, -0.05, 0.05), SURE, 0.0)
    assert found.open_words(Budget()) == " (297 more groups for PASS)"
    assert replace(found, frames=counted(0, 296)).verdict(Budget()) == "INCONCLUSIVE"
    enough = replace(found, frames=counted(0, 297))
    assert enough.verdict(Budget()) == "PASS"
    assert enough.open_words(Budget()) == ""
    # Frames that show more flips than the budget allows are no help: the file is outside it.
    assert not replace(found, frames=counted(20, 400)).within(Budget())
    assert replace(found, frames=counted(20, 400)).verdict(Budget()) == "FAIL"
