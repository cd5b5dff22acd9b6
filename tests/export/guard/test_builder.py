"""The speed that is demanded, and the figures of a candidate."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sonoedge.export.convert.operators import Operator
from sonoedge.export.guard.builder import HEAVY_MACS, MIN_SPEEDUP, CandidateBuilder, speedup_wanted
from sonoedge.export.guard.comparison import Budget
from sonoedge.export.quantize.recipes import Recipe
from tests.helpers.int8_models import Bench


@pytest.mark.parametrize(
    ("macs", "dot_products", "wanted"),
    [(HEAVY_MACS, ["AVX512-VNNI"], MIN_SPEEDUP), (HEAVY_MACS, [], 0.0), (HEAVY_MACS - 1, ["AVX512-VNNI"], 0.0)],
)
def test_speed_is_demanded_of_heavy_models_on_processors_with_int8_dot_products(
    macs: int, dot_products: list[str], wanted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonoedge.export.guard.builder.int8_dot_products", lambda: dot_products)
    quantizer = SimpleNamespace(operators=(Operator("a", "CONV_2D", frozenset({"left"}), macs=macs),))
    assert speedup_wanted(quantizer) == wanted  # type: ignore[arg-type]


def test_figures_for_the_bundle_are_plain_json(broken: Bench, tmp_path: Path) -> None:

    builder = CandidateBuilder(broken.source.quantizer("tflite"), broken.evaluator, tmp_path)
    builder.add("w8a8", Recipe())
    body = builder.table(Budget(), runs=5).candidates[0].to_json(Budget())
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    assert body["flips"][1] <= body["flips"][0] <= body["flips"][2]
    assert body["verdict"] in {"PASS", "FAIL", "INCONCLUSIVE"}
