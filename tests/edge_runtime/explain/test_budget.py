"""A budget stops for want of time or of news, and says which."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.explain.methods.budget import Budget, rank_correlation


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_budget(seconds: float) -> None:
    with pytest.raises(UsageError, match="seconds above 0"):
        Budget(seconds)


def test_time() -> None:
    now = [0.0]
    budget = Budget(2.0, clock=lambda: now[0])
    assert budget.more(0, 10)
    now[0] = 2.0
    assert not budget.more(4, 10)
    assert (budget.stopped, budget.done) == ("time", 4)
    assert "2 s were enough for 4 of 10" in budget.says()


def test_a_whole_run_says_nothing() -> None:
    budget = Budget(1e9)
    assert not budget.more(10, 10)
    assert (budget.stopped, budget.says()) == ("complete", "")


@pytest.mark.parametrize("changing", [False, True])
def test_an_order_that_stands_stops_it(changing: bool) -> None:
    rng, order = np.random.default_rng(0), np.arange(30.0)
    budget = Budget()
    done = 0
    while budget.more(done, 100, lambda: rng.permutation(order) if changing else 2 * order):
        done += 1
    assert (done, budget.stopped) == ((100, "complete") if changing else (20, "stable"))
    assert ("no longer changed" in budget.says()) != changing


def test_it_is_watched() -> None:
    seen: list[tuple[int, int]] = []
    budget = Budget(watch=lambda done, total: seen.append((done, total)))
    for done in range(4):
        budget.more(done, 3)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_rank_correlation_with_ties() -> None:
    from_scipy = pytest.importorskip("scipy.stats").spearmanr
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 5, (2, 6, 7)).astype(float)
        assert rank_correlation(a, b) == pytest.approx(from_scipy(a.ravel(), b.ravel()).statistic, abs=1e-12)
    assert math.isnan(rank_correlation(np.ones(4), np.arange(4.0)))
