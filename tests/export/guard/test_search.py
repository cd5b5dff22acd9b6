"""The search finds the fragile branch by itself, and keeps to its budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sonoedge.export.guard.candidate_table import table_text
from sonoedge.export.guard.comparison import Budget
from sonoedge.export.guard.search import MIN_INT8_SHARE, search_candidates
from sonoedge.export.quantize.recipes import assignments
from tests.helpers.int8_models import LOOSE, Bench, bench, depthwise, lacking, two_branches


@pytest.mark.slow
@pytest.mark.parametrize("fragile", [0, 1])
def test_the_fragile_branch_is_found_whichever_it_is(fragile: int, tmp_path: Path) -> None:
    place = bench(tmp_path, two_branches(fragile))
    quantizer = place.source.quantizer("tflite")
    table = search_candidates(quantizer, place.evaluator, tmp_path / "candidates", LOOSE, progress=False)
    plain, chosen = table.candidates[0], table.chosen
    assert not plain.within(table.budget)
    assert chosen is not None
    assert chosen.recipe.precision == "mixed"
    kept = {name for name, p in assignments(chosen.recipe, quantizer.operators).items() if p != "w8a8"}
    own, other = ("left", "right")[fragile], ("right", "left")[fragile]
    touched = set().union(*(op.branches for op in quantizer.operators if op.name in kept and len(op.branches) == 1))
    assert touched == {own}, f"{other} is sound and must stay int8"
    assert f"mixed by branch, {own} float" in [c.name for c in table.candidates]
    text = table_text(table)
    assert text.count("<- taken") == 1
    assert "60 validation images" in text
    assert all(np.isfinite(c.p50_ms) for c in table.candidates)


def test_a_sound_model_needs_no_search(tmp_path: Path) -> None:
    place = bench(tmp_path, two_branches(None))
    table = search_candidates(
        place.source.quantizer("tflite"),
        place.evaluator,
        tmp_path / "candidates",
        Budget(0.05, 0.05),
        progress=False,
    )
    assert [c.recipe.precision for c in table.candidates] == ["w8a8"]
    assert table.chosen is table.candidates[0]


def test_weights_are_rounded_again_before_an_operator_stays_float(tmp_path: Path) -> None:
    place = bench(tmp_path, depthwise())
    quantizer = place.source.quantizer("tflite")
    table = search_candidates(
        quantizer, place.evaluator, tmp_path / "candidates", Budget(1.0, 0.003), progress=False
    )
    assert [c.recipe.rounding for c in table.candidates] == ["nearest", "fitted"]
    assert [c.recipe.precision for c in table.candidates] == ["w8a8", "w8a8"]
    assert not table.candidates[0].within(table.budget)
    assert table.chosen is table.candidates[1]


@pytest.mark.slow
def test_the_guard_goes_on_to_operators_and_other_ranges_before_it_gives_up(tmp_path: Path) -> None:
    place = bench(tmp_path, two_branches(1))
    quantizer = place.source.quantizer("tflite")
    table = search_candidates(quantizer, place.evaluator, tmp_path / "candidates", Budget(-1, -1), progress=False)
    assert table.chosen is None
    names = [c.name for c in table.candidates]
    for rule in quantizer.range_rules:
        assert f"w8a8, {rule} ranges" in names
    spared = [
        {op.name for op in quantizer.operators if assignments(c.recipe, quantizer.operators)[op.name] == "float"}
        for c in table.candidates
    ]
    left = {op.name for op in quantizer.operators if op.branches == {"left"}}
    assert any(kept & left for kept in spared), "operators of the sound branch are spared too"
    assert all(c.int8_share >= MIN_INT8_SHARE for c in table.candidates)


def test_a_candidate_that_the_interpreter_lacks_an_operator_for_is_skipped(broken: Bench, tmp_path: Path) -> None:
    table = search_candidates(lacking(broken), broken.evaluator, tmp_path, LOOSE, progress=False)
    plain = table.candidates[0]
    assert plain.comparison is None
    assert "CUSTOM 'FancySwish'" in plain.error
    assert table.chosen is not None
    text = table_text(table)
    assert "skipped" in text
    assert "CUSTOM" in text


@pytest.mark.slow
def test_openvino_finds_the_fragile_branch_too(tmp_path: Path) -> None:
    place = bench(tmp_path, two_branches(0), "openvino")
    quantizer = place.source.quantizer("openvino")
    table = search_candidates(quantizer, place.evaluator, tmp_path / "candidates", LOOSE, progress=False)
    assert table.chosen is not None
    assert set(table.candidates[0].device["executed"]) & {"i8", "u8"}
    if table.chosen.recipe.precision == "mixed":
        kept = {n for n, p in assignments(table.chosen.recipe, quantizer.operators).items() if p == "float16"}
        assert {b for op in quantizer.operators if op.name in kept for b in op.branches} == {"left"}
