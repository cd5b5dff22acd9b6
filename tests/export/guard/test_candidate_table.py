"""Which candidate of a table is taken, and the table of all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sonoedge.edge_runtime.proportion import GroupedCount
from sonoedge.export.guard.candidate_table import CandidateTable, table_text
from sonoedge.export.guard.comparison import Budget, Comparison
from sonoedge.train.evaluation.intervals import Interval
from tests.helpers.int8_models import SURE, candidate, comparison


def test_the_fastest_within_the_budget_is_taken_and_noise_is_no_speed() -> None:
    quick = candidate("quick", 10.0, comparison(2, 0.5))
    tied = candidate("tied", 20.0, comparison(1, 0.4))
    exact = candidate("exact", 20.4, comparison(0, 0.1))
    slow = candidate("slow", 30.0, comparison(0, 0.0))
    table = CandidateTable((quick, tied, exact, slow), Budget(), 40.0)
    assert table.chosen is exact
    assert replace(table, budget=Budget(0.01, 0.02)).chosen is quick
    assert replace(table, candidates=(quick,)).chosen is None
    assert table.nearest is slow


def test_the_table_shows_groups_intervals_and_what_is_missing() -> None:
    flips = GroupedCount.of(np.zeros(95, bool), [f"g{min(i, 70)}" for i in range(95)])
    found = Comparison(np.zeros(95), 0.5, flips, Interval(0.0, -0.05, 0.05), SURE, 0.0)
    table = table_text(CandidateTable((candidate("w8a8", 1.0, found),), Budget(), 2.0))
    assert "0/95 (71 groups) 0.0–5.1 %" in table
    assert "INCONCLUSIVE (297 more groups for PASS) <- taken" in table
    assert "95 validation images in 71 groups" in table
    unsure = replace(found, auc_difference=Interval(0.0, -0.1, 0.1))
    assert "AUC needs more labelled images" in table_text(
        CandidateTable((candidate("w8a8", 1.0, unsure),), Budget(), 2.0)
    )
    zero = table_text(CandidateTable((candidate("w8a8", 1.0, found),), Budget(0, 0), 2.0))
    assert "no number of groups is enough" in zero


def test_a_file_that_is_not_fast_enough_is_not_taken() -> None:
    exact, quick = candidate("exact", 20.0, comparison(0, 0.1)), candidate("quick", 10.0, comparison(9, 0.1))
    table = CandidateTable((exact, quick), Budget(), 30.0, min_speedup=3.0)
    assert table.chosen is None
    assert replace(table, min_speedup=1.5).chosen is exact
    assert table.speedup(quick) == 3.0 and table.is_fast(quick)
