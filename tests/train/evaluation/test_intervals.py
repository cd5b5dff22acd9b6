"""Intervals of proportions, of paired differences and of the AUC."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest, norm

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.evaluation.bootstrap import weighted_auc
from sonoedge.train.evaluation.intervals import (
    GroupedCount,
    Interval,
    auc_score_interval,
    clopper_pearson,
    flip_rate,
    paired_accuracy_difference,
    paired_difference,
    union,
    wilson,
)


def approx(interval: Interval, low: float, high: float, digits: int) -> None:
    assert round(interval.low, digits) == pytest.approx(low)
    assert round(interval.high, digits) == pytest.approx(high)


def test_clopper_pearson_known_values() -> None:
    # 0 of n: 1 - 0.025^(1/n). 10 of 20 and 1 of 10: Clopper and Pearson's interval in any table.
    assert clopper_pearson(0, 97).high == pytest.approx(1 - 0.025 ** (1 / 97))
    approx(clopper_pearson(0, 97), 0.0, 0.0373, 4)
    approx(clopper_pearson(10, 20), 0.2720, 0.7280, 4)
    approx(clopper_pearson(1, 10), 0.0025, 0.4450, 4)


def test_wilson_known_values() -> None:
    # Newcombe, Statistics in Medicine 17:857, 1998, Table I, method 3.
    approx(wilson(81, 263), 0.2553, 0.3662, 4)
    approx(wilson(15, 148), 0.0624, 0.1605, 4)
    approx(wilson(0, 20), 0.0, 0.1611, 4)
    approx(wilson(1, 29), 0.0061, 0.1718, 4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_proportion_intervals_hold_the_estimate_and_have_width(counts: tuple[int, int], level: float) -> None:
    for interval in (clopper_pearson(*counts, level), wilson(*counts, level)):
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
        assert interval.low < interval.high
    reference = binomtest(*counts).proportion_ci(level, method="wilson")
    assert wilson(*counts, level).low == pytest.approx(reference.low, abs=1e-12)
    assert wilson(*counts, level).high == pytest.approx(reference.high, abs=1e-12)


@pytest.mark.parametrize("counts", [(0, 0), (-1, 3), (4, 3), (0, -1)])
def test_impossible_counts(counts: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="Received"):
        clopper_pearson(*counts)
    with pytest.raises(DataError, match="Received"):
        wilson(*counts)


def test_impossible_level() -> None:
    with pytest.raises(DataError, match="level"):
        wilson(1, 2, 1.0)


def test_flip_rate_counts_disagreements() -> None:
    interval = flip_rate([0, 1, 1, 0], [0, 1, 0, 0], None)
    assert interval.high == pytest.approx(clopper_pearson(1, 4).high)
    assert interval.low == pytest.approx(clopper_pearson(1, 4).low)
    with pytest.raises(DataError, match="shape"):
        flip_rate([0, 1], [0], None)
    with pytest.raises(DataError, match="shape"):
        flip_rate([], [], None)
    with pytest.raises(DataError, match="one group per image"):
        flip_rate([0, 1], [0, 1], ["a"])


def test_copies_add_no_certainty() -> None:
    """0 of 1,350 images, 18 copies of 75 each, proves what 0 of 75 does."""
    same = np.zeros(1350, bool)
    groups = [str(i // 18) for i in range(1350)]
    assert flip_rate(same, same, groups).high == pytest.approx(1 - 0.025 ** (1 / 75))
    assert paired_accuracy_difference(same, same, groups) == paired_difference(0, 0, 75)
    one = np.arange(1350) == 7
    # One event is never better news than none; images of one group that differ together are one event.
    assert flip_rate(same, one, groups).high > flip_rate(same, same, groups).high
    together = np.arange(1350) < 18
    assert flip_rate(same, together, groups).high == pytest.approx(clopper_pearson(1, 75).high)
    difference = paired_accuracy_difference(same, together, groups)
    assert difference.high == pytest.approx(paired_difference(0, 1, 75).high)


SIZES = {
    "equal": lambda rng, count: np.full(count, 18),
    "unequal": lambda rng, count: rng.choice([1, 18], count, p=[0.7, 0.3]),
    "few copies": lambda rng, count: rng.choice([1, 2, 3, 5], count, p=[0.8, 0.13, 0.05, 0.02]),
}


@pytest.mark.long
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_grouped_intervals_cover_the_truth(sizes: str, alike: float) -> None:
    """Simulated: 5 % of events, that come from the group (1), from the image (0), or half from each.

    Other intervals that were tried cover at worst: images as independent 19.5 %, one unit a group 86 %,
    an estimated design effect 69 %, the same with at most one unit a group 84 %, a bootstrap of groups 48 %.
    """
    rng = np.random.default_rng(1)
    covered = covered_difference = 0
    rounds, share = 100, 0.05
    for _ in range(rounds):
        count = SIZES[sizes](rng, 120)
        groups = np.repeat(np.arange(120), count)
        own = rng.random(120)
        if alike == 1:
            probability = (own < share).astype(float)
        else:
            weight = (1 - alike) / alike if alike else 1e6
            probability = rng.beta(share * weight, (1 - share) * weight, 120)
        event = rng.random(groups.size) < probability[groups]
        interval = flip_rate(np.zeros(groups.size, bool), event, groups.astype(str))
        covered += interval.low <= share <= interval.high
        # Half of the groups lose and half of them gain: the difference is 0.
        sign = rng.random(120)[groups] < 0.5
        difference = paired_accuracy_difference(event & sign, event & ~sign, groups.astype(str))
        covered_difference += difference.low <= 0 <= difference.high
    assert covered >= 0.93 * rounds
    assert covered_difference >= 0.93 * rounds


@given(st.floats(1e-6, 1), st.floats(0.5, 5000), st.floats(0.5, 0.999))
def test_fractional_counts_have_the_beta_quantiles(share: float, n: float, level: float) -> None:
    k = share * n
    found, tail = clopper_pearson(k, n, level), (1 - level) / 2
    if k > 0:
        assert found.low == pytest.approx(min(beta.ppf(tail, k, n - k + 1), share), abs=1e-9)
    if k < n:
        assert found.high == pytest.approx(max(beta.ppf(1 - tail, k + 1, n - k), share), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=30), st.floats(0.01, 0.9))
def test_the_missing_groups_are_exactly_those_that_make_it_pass(rows: list[tuple[int, bool]], limit: float) -> None:
    found = GroupedCount.of([event for _, event in rows], [str(g) for g, _ in rows])
    more = found.missing(limit)
    assert more is not None

    def with_more(count: int) -> GroupedCount:
        return found + GroupedCount.of(np.zeros(count, bool), None) if count else found

    assert with_more(more).verdict(limit) == "PASS"
    assert not more or with_more(more - 1).verdict(limit) != "PASS"


def test_0_of_368_groups_is_the_first_pass_at_1_per_cent() -> None:
    none = GroupedCount.of(np.zeros(95, bool), [str(min(i, 70)) for i in range(95)])
    assert none.words(0.01) == "0/95 (71 groups) 0.0–5.1 %, INCONCLUSIVE, 297 more groups for PASS"
    assert GroupedCount.of(np.zeros(367, bool), None).missing(0.01) == 1
    assert GroupedCount.of(np.zeros(368, bool), None).words(0.01).endswith("PASS")
    assert none.missing(0.0) is None
    assert "no number of images proves 0 %" in none.words(0.0)


def test_tango_published_examples() -> None:
    # Tango 1998, section 6.1: 44 pairs, one success of the standard alone; lower limit of the 90 % interval.
    assert round(paired_difference(1, 0, 44, 0.90).low, 3) == -0.096
    # Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, 2017, chapter 8 (Bentur data).
    approx(paired_difference(7, 1, 21), -0.517, -0.026, 3)
    # R package PropCIs 0.3-0, scoreci.mp(b, c, n), which estimates (c - b) / n.
    approx(paired_difference(25, 28, 618, 0.90), -0.0148, 0.0247, 4)
    approx(paired_difference(60, 20, 1000), -0.0584, -0.0231, 4)


@given(
    st.integers(1, 200).flatmap(
        lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n)).filter(lambda t: t[0] + t[1] <= n)
    )
)
def test_tango_properties(counts: tuple[int, int, int]) -> None:
    only_a, only_b, n = counts
    interval, mirrored = paired_difference(only_a, only_b, n), paired_difference(only_b, only_a, n)
    assert -1 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.low < interval.high
    assert interval.low == pytest.approx(-mirrored.high, abs=1e-8)
    # At a difference of 0 the score test is McNemar's.
    if only_a + only_b:
        mcnemar = (only_b - only_a) ** 2 / (only_a + only_b)
        critical = norm.ppf(0.975) ** 2
        if abs(mcnemar - critical) > 1e-6:
            assert (interval.low <= 0 <= interval.high) == (mcnemar < critical)


def test_tango_coverage() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for only_a, only_b, _ in rng.multinomial(60, (0.12, 0.05, 0.83), 600):
        interval = paired_difference(int(only_a), int(only_b), 60)
        covered.append(interval.low <= 0.05 - 0.12 <= interval.high)
    assert 0.93 < np.mean(covered) < 0.985


def test_paired_accuracy_difference_is_b_minus_a() -> None:
    a, b = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 0, 1], bool)
    found, expected = paired_accuracy_difference(a, b, None), paired_difference(2, 1, 5)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(-0.2)
    with pytest.raises(DataError, match="shape"):
        paired_accuracy_difference(a, b[:2], None)


@pytest.mark.parametrize(("shift", "per_class"), [(1.0, 30), (2.5, 25), (4.0, 20)])
def test_auc_score_interval_coverage(shift: float, per_class: int) -> None:
    rng = np.random.default_rng(0)
    truth = float(norm.cdf(shift / math.sqrt(2)))
    y = np.repeat([0, 1], per_class)
    whole, covered = np.ones((1, y.size)), []
    for _ in range(300):
        auc = float(weighted_auc(y, rng.normal(size=y.size) + shift * y, whole)[0])
        interval = auc_score_interval(auc, per_class, per_class)
        assert 0 <= interval.low <= auc <= interval.high <= 1 and interval.low < interval.high
        covered.append(interval.low <= truth <= interval.high)
    assert np.mean(covered) > 0.925


@pytest.mark.parametrize("wrong", [(1.2, 3, 3), (0.5, 0, 3), (0.5, 3, 0)])
def test_auc_score_interval_arguments(wrong: tuple[float, int, int]) -> None:
    with pytest.raises(DataError, match="Received"):
        auc_score_interval(*wrong)


def test_union() -> None:
    assert union(Interval(0.5, 0.45, 0.5), Interval(0.4, 0.3, 0.48)) == Interval(0.5, 0.3, 0.5)
