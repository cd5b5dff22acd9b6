"""The int8 file that is written, its recipe, its cache, and when none is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sonoedge.edge_runtime.errors import AccuracyError, ModelError, UsageError
from sonoedge.export.guard.candidate_table import promise
from sonoedge.export.guard.comparison import Budget, compare
from sonoedge.export.guard.int8 import Int8Policy
from sonoedge.export.quantize.recipes import Recipe
from tests.helpers.int8_models import LOOSE, Bench, bench, int8, lacking, two_branches


@pytest.mark.slow
def test_where_float_would_do_most_of_the_work_the_float16_file_is_named(tmp_path: Path) -> None:
    """Both branches are equally heavy: sparing the fragile one would leave half of the multiply-adds in int8."""
    place = bench(tmp_path, two_branches(1, wide=8))
    with pytest.raises(AccuracyError, match="--format tflite-fp16"):
        int8(place, Int8Policy(Budget(0, 0), validation=place.evaluator.dataset), tmp_path / "out")
    assert not (tmp_path / "out" / "backbone.tflite").exists()


@pytest.mark.slow
def test_a_budget_that_nothing_meets_is_refused_with_the_nearest(
    broken: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every candidate decides the other way round, so no mix can be within the budget."""
    monkeypatch.setattr("sonoedge.export.guard.evaluator.compare", lambda *given: compare(*given[:3], -given[3]))
    caplog.set_level("INFO", "sonoedge")
    policy = Int8Policy(Budget(0.0, 0.0), validation=broken.evaluator.dataset, precision="guard")
    with pytest.raises(AccuracyError) as refused:
        int8(broken, policy, tmp_path / "zero")
    for part in ("candidate", "Nearest: ", "--allow-drop"):
        assert part in str(refused.value)
    assert not (tmp_path / "zero" / "backbone.tflite").exists()
    choice = int8(broken, replace(policy, allow_drop=True), tmp_path / "allowed")
    assert any("outside the budget" in line for line in caplog.messages)
    assert choice.candidate.comparison.flipped > 0
    assert (tmp_path / "allowed" / "backbone.tflite").is_file()


def test_float16_weights_make_the_same_mix_smaller(broken: Bench, tmp_path: Path) -> None:
    policy = Int8Policy(LOOSE, validation=broken.evaluator.dataset)
    whole = int8(broken, policy, tmp_path / "whole")
    half = int8(broken, replace(policy, float16_weights=True), tmp_path / "half")
    sizes = [{c.name: c.size_bytes for c in choice.table.candidates} for choice in (whole, half)]
    assert sizes[1]["mixed by branch, right float16"] < sizes[0]["mixed by branch, right float"]


def test_a_second_run_takes_everything_from_the_cache(
    broken: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Int8Policy(LOOSE, validation=broken.evaluator.dataset)
    first = int8(broken, policy, tmp_path / "first")
    monkeypatch.setattr(
        "sonoedge.export.quantize.recorders.TFLiteRecorder.values", lambda *_: pytest.fail("calibrated again")
    )
    monkeypatch.setattr(
        "sonoedge.export.guard.evaluator.Evaluator._logit", lambda *_: pytest.fail("measured again")
    )
    second = int8(broken, policy, tmp_path / "second")
    assert [c.name for c in second.table.candidates] == [c.name for c in first.table.candidates]
    for a, b in zip(first.table.candidates, second.table.candidates, strict=True):
        assert np.array_equal(a.comparison.logits, b.comparison.logits)


def test_the_stored_recipe_repeats_the_file(broken: Bench, tmp_path: Path) -> None:
    choice = int8(broken, Int8Policy(LOOSE, validation=broken.evaluator.dataset), tmp_path / "guard")
    policy = Int8Policy(LOOSE, validation=broken.evaluator.dataset, recipe=choice.recipe)
    again = int8(broken, policy, tmp_path / "again")
    files = [tmp_path / name / "backbone.tflite" for name in ("guard", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert again.threshold == choice.threshold


def test_mixed_is_a_mix_even_where_plain_would_do(broken: Bench, tmp_path: Path) -> None:
    policy = Int8Policy(Budget(1, 1), "mixed", validation=broken.evaluator.dataset)
    choice = int8(broken, policy, tmp_path / "mixed")
    assert choice.table.candidates[0].within(Budget(1, 1))
    assert choice.recipe.precision == "mixed"


def test_the_guard_needs_validation_images(broken: Bench, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the validation images"):
        int8(broken, Int8Policy(), tmp_path / "none")


def test_nothing_runs(broken: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = lacking(broken)
    quantizer.everything = True
    monkeypatch.setattr(broken.source, "quantizer", lambda *_: quantizer)
    with pytest.raises(ModelError, match="operator CUSTOM 'FancySwish'"):
        int8(broken, Int8Policy(LOOSE, validation=broken.evaluator.dataset), tmp_path / "out")


@pytest.mark.parametrize("precision", ["w8a8", "recipe", "mixed"])
def test_what_was_asked_for_says_that_nothing_is_promised(broken: Bench, tmp_path: Path, precision: str) -> None:
    """A budget of 0 for 13 % of flips: these options write the file, and say so."""
    asked = {"recipe": Recipe("w8a8", ranges="extremes")}.get(precision)
    tight = Budget(0.0, 0.0)
    name = "guard" if precision == "recipe" else precision
    choice = int8(broken, Int8Policy(tight, name, asked, validation=broken.evaluator.dataset), tmp_path / "out")
    found = promise(choice.candidate, tight)
    assert found["kept"] == choice.candidate.within(tight)
    if precision != "mixed":
        assert found["kept"] is False
        assert found["text"].startswith("no accuracy promise: outside the budget")
    assert promise(choice.candidate, Budget(1, 1))["kept"] is True
    assert promise(None, tight) == {
        "kept": False, "text": "no accuracy promise: not measured, there are no validation images",
    }  # fmt: skip
