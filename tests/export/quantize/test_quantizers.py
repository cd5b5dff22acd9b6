"""Quantizers: the file holds what the recipe asks for, and a branch alone computes what it does in the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.export.convert.graphs import parse_tflite, tflite_branch, tflite_operators, tflite_text
from sonoedge.export.quantize.recipes import RANGES, TFLITE_ONLY, Recipe, Rule, int8_share, recipe_for
from tests.helpers.int8_models import Bench, outputs


def integer_results(path: Path) -> set[str]:
    """Names of operators whose result is stored as an integer."""
    graph = parse_tflite(path.read_bytes()).subgraphs[0]
    results = {int(i) for op in graph.operators for i in op.outputs}
    return {f"{tflite_text(graph.tensors[i].name)};" for i in results if graph.tensors[i].type in {7, 9}}


def test_operators_know_their_branches_and_inputs(place: Bench) -> None:
    operators = tflite_operators(place.source.tflite_float)
    assert len({op.name for op in operators}) == len(operators)
    assert {b for op in operators for b in op.branches} == {"left", "right"}
    shared = [op for op in operators if op.branches == {"left", "right"}]
    assert shared, "the rescaling feeds both"
    names = [op.name for op in operators]
    for op in operators:
        assert all(names.index(before) < names.index(op.name) for before in op.inputs)


@pytest.mark.parametrize("branch", ["left", "right"])
def test_a_branch_alone_computes_the_same(branch: str, place: Bench, tmp_path: Path) -> None:
    path = tmp_path / "branch.tflite"
    path.write_bytes(tflite_branch(place.source.tflite_float, branch))
    assert path.stat().st_size < len(place.source.tflite_float)
    whole = outputs(place.evaluator.float_path, "tflite", place)
    for alone, both in zip(outputs(path, "tflite", place), whole, strict=True):
        assert list(alone) == [branch]
        np.testing.assert_array_equal(alone[branch], both[branch])


def test_a_quantized_branch_alone_computes_the_same(place: Bench, tmp_path: Path) -> None:
    quantizer = place.source.quantizer("tflite")
    recipe = Recipe(rules=(Rule("left_middle"),))
    quantizer.build(tmp_path / "whole.tflite", recipe)
    for branch in ("left", "right"):
        quantizer.build(tmp_path / "alone.tflite", recipe, branch)
        whole = outputs(tmp_path / "whole.tflite", "tflite", place)
        for alone, both in zip(outputs(tmp_path / "alone.tflite", "tflite", place), whole, strict=True):
            np.testing.assert_array_equal(alone[branch], both[branch])


def test_what_the_recipe_keeps_in_float_is_float(place: Bench, tmp_path: Path) -> None:
    quantizer = place.source.quantizer("tflite")
    path = tmp_path / "backbone.tflite"
    quantizer.build(path, Recipe())
    everything = integer_results(path)
    kept = {op.name for op in quantizer.operators if op.branches == {"right"}}
    quantizer.build(path, recipe_for(frozenset(kept), quantizer.operators))
    assert integer_results(path) & kept == set()
    assert integer_results(path) == everything - kept
    quantizer.build(path, Recipe(rules=(Rule("."),)))
    assert path.read_bytes() == place.source.tflite_float


def test_dynamic_operators_have_int8_weights_and_float_results(place: Bench, tmp_path: Path) -> None:
    quantizer = place.source.quantizer("tflite")
    path = tmp_path / "backbone.tflite"
    spared = frozenset(op.name for op in quantizer.operators if op.branches == {"right"})
    quantizer.build(path, recipe_for(spared, quantizer.operators, kept="dynamic"))
    assert integer_results(path) & spared == set()
    graph = parse_tflite(path.read_bytes()).subgraphs[0]
    convolutions = [
        op
        for op in graph.operators
        if f"{tflite_text(graph.tensors[op.outputs[0]].name)};" in spared and len(op.inputs) == 3
    ]
    assert convolutions
    assert {graph.tensors[op.inputs[1]].type for op in convolutions} >= {9}
    exact = outputs(place.evaluator.float_path, "tflite", place)
    for found, wanted in zip(outputs(path, "tflite", place), exact, strict=True):
        error = np.linalg.norm(found["right"] - wanted["right"]) / np.linalg.norm(wanted["right"])
        assert 0 < error < 0.05


@pytest.mark.parametrize(("kept", "stored", "largest"), [("weight_only", 9, 0.05), ("float16", 1, 2e-3)])
def test_small_weights_become_float32_and_so_does_the_arithmetic(
    kept: str, stored: int, largest: float, place: Bench, tmp_path: Path
) -> None:
    """The weights of every convolution come out of DEQUANTIZE, which reads the stored type; results are float32."""
    quantizer = place.source.quantizer("tflite")
    path = tmp_path / "backbone.tflite"
    spared = frozenset(op.name for op in quantizer.operators if op.branches == {"right"})
    quantizer.build(path, recipe_for(spared, quantizer.operators, kept=kept))
    assert integer_results(path) & spared == set()
    graph = parse_tflite(path.read_bytes()).subgraphs[0]
    writers = {int(op.outputs[0]): op for op in graph.operators}
    convolutions = [
        op
        for op in graph.operators
        if f"{tflite_text(graph.tensors[op.outputs[0]].name)};" in spared and len(op.inputs) == 3
    ]
    assert convolutions
    for op in convolutions:
        assert graph.tensors[op.inputs[1]].type == 0
        assert graph.tensors[writers[int(op.inputs[1])].inputs[0]].type == stored
    quantizer.build(tmp_path / "float.tflite", recipe_for(spared, quantizer.operators))
    exact = outputs(tmp_path / "float.tflite", "tflite", place)
    for found, wanted in zip(outputs(path, "tflite", place), exact, strict=True):
        error = np.linalg.norm(found["right"] - wanted["right"]) / np.linalg.norm(wanted["right"])
        assert 0 < error < largest


def test_pixels_are_exact(place: Bench, tmp_path: Path) -> None:
    """The image's quantizer has scale 1 and its zero at pixel 0."""
    path = tmp_path / "backbone.tflite"
    place.source.quantizer("tflite").build(path, Recipe())
    graph = parse_tflite(path.read_bytes()).subgraphs[0]
    first = next(
        t for t in graph.tensors if t.type == 9 and tflite_text(t.name).startswith("serving_default_image")
    )
    assert float(first.quantization.scale[0]) == pytest.approx(1.0, abs=1e-6)
    assert int(first.quantization.zeroPoint[0]) == -128


@pytest.mark.parametrize("runtime", ["tflite", "openvino"])
@pytest.mark.parametrize("ranges", RANGES)
def test_every_range_rule_gives_a_file_near_float(
    ranges: str, runtime: str, place: Bench, vino: Bench, tmp_path: Path
) -> None:
    here = place if runtime == "tflite" else vino
    quantizer = here.source.quantizer(runtime)
    path = tmp_path / f"backbone{quantizer.suffix}"
    quantizer.build(path, Recipe(ranges=ranges))
    exact = outputs(here.evaluator.float_path, runtime, here)
    for found, wanted in zip(outputs(path, runtime, here), exact, strict=True):
        for name in wanted:
            error = np.linalg.norm(found[name] - wanted[name]) / np.linalg.norm(wanted[name])
            assert 0 < error < (0.05 if ranges == "mse" else 0.4)


@pytest.mark.parametrize("runtime", ["tflite", "openvino"])
def test_a_branch_has_the_ranges_of_its_own_rule(runtime: str, place: Bench, vino: Bench, tmp_path: Path) -> None:
    here = place if runtime == "tflite" else vino
    quantizer = here.source.quantizer(runtime)
    found = {}
    recipes = {rule: Recipe(ranges=rule) for rule in ("extremes", "percentile")}
    recipes["mixed"] = recipe_for(
        frozenset(), quantizer.operators, ranges={"left": "extremes", "right": "percentile"}
    )
    for name, recipe in recipes.items():
        path = tmp_path / name / f"backbone{quantizer.suffix}"
        path.parent.mkdir()
        quantizer.build(path, recipe)
        found[name] = outputs(path, runtime, here)
    for branch, own, other in (("left", "extremes", "percentile"), ("right", "percentile", "extremes")):
        near, far = (
            sum(np.linalg.norm(m[branch] - f[branch]) for m, f in zip(found["mixed"], found[rule], strict=True))
            for rule in (own, other)
        )
        # Not zero: what both branches read has the rule of one of them.
        assert near < far


def test_w8a16_is_more_exact_than_w8a8(place: Bench, tmp_path: Path) -> None:
    quantizer = place.source.quantizer("tflite")
    errors = {}
    exact = outputs(place.evaluator.float_path, "tflite", place)
    for base in ("w8a8", "w8a16"):
        quantizer.build(tmp_path / f"{base}.tflite", Recipe(base, ranges="extremes"))
        found = outputs(tmp_path / f"{base}.tflite", "tflite", place)
        errors[base] = sum(
            np.linalg.norm(f[name] - w[name]) for f, w in zip(found, exact, strict=True) for name in w
        )
    assert errors["w8a16"] < errors["w8a8"]


def test_w8a16_clips_nothing_unless_it_is_told_to(place: Bench, tmp_path: Path) -> None:
    """Whether it is the base or the precision of some operators."""
    quantizer = place.source.quantizer("tflite")

    def built(recipe: Recipe) -> bytes:
        quantizer.build(tmp_path / "backbone.tflite", recipe)
        return (tmp_path / "backbone.tflite").read_bytes()

    assert built(Recipe("w8a16")) == built(Recipe("w8a16", ranges="extremes"))
    assert built(Recipe("w8a16")) != built(Recipe("w8a16", ranges="percentile"))
    some = built(Recipe(rules=(Rule("right", precision="w8a16"),)))
    assert some == built(Recipe(rules=(Rule("right", precision="w8a16", ranges="extremes"),)))


def test_recipes_that_a_runtime_does_not_know(place: Bench, vino: Bench, tmp_path: Path) -> None:
    for recipe in (Recipe("w8a16"), *(Recipe(rules=(Rule(".", precision=kept),)) for kept in TFLITE_ONLY)):
        with pytest.raises(UsageError, match="TensorFlow Lite alone has"):
            vino.source.quantizer("openvino").build(tmp_path / "backbone.xml", recipe)
    for bench_, runtime in ((vino, "openvino"), (place, "tflite")):
        with pytest.raises(UsageError, match=f"{runtime} knows the ranges"):
            bench_.source.quantizer(runtime).build(tmp_path / "backbone", Recipe(ranges="symmetric"))
    with pytest.raises(UsageError, match="matches no operator"):
        place.source.quantizer("tflite").build(tmp_path / "backbone.tflite", Recipe(rules=(Rule("nosuch"),)))


def test_multiply_adds_are_counted_alike_in_both_runtimes(vino: Bench) -> None:
    """By hand: 12x12 and 6x6 maps, 3x3 kernels, 3 -> 8 -> 8 -> 6 channels, two branches."""
    by_hand = 2 * 9 * (144 * 3 * 8 + 144 * 8 * 8 + 36 * 8 * 6)
    for runtime in ("tflite", "openvino"):
        assert sum(op.macs for op in vino.source.quantizer(runtime).operators) == by_hand


def test_the_int8_share_counts_multiply_adds(vino: Bench) -> None:
    operators = vino.source.quantizer("tflite").operators
    left = frozenset(op.name for op in operators if op.branches == {"left"})
    assert int8_share(recipe_for(frozenset(), operators), operators) == 1.0
    assert int8_share(recipe_for(left, operators), operators) == pytest.approx(0.5)
    assert int8_share(recipe_for(left, operators, kept="float16"), operators) == pytest.approx(0.5)
