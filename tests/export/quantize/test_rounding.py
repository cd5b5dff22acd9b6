"""Rounding of int8 weights for a layer's results: less error, the same grid, the same in both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.export.convert.conversion import save_openvino
from sonoedge.export.convert.graphs import parse_tflite, read_openvino, tflite_constant, tflite_name
from sonoedge.export.quantize.quantization import quantize_openvino
from sonoedge.export.quantize.recipes import Recipe, Rule, parse_recipe
from sonoedge.export.quantize.rounding import HALF_STEPS, round_filters, with_weights, with_weights_openvino
from tests.helpers.int8_models import Bench, bench, depthwise, outputs


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("few"), depthwise(), images=16)


def moments(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs of filters as behind a ReLU: alike and far from zero on average."""
    inputs = np.maximum(rng.normal(1.0, 1.0, (4000, 1)) + 0.3 * rng.normal(size=(4000, size)), 0)
    return inputs, inputs.mean(axis=0), np.cov(inputs.T, bias=True)


@pytest.mark.parametrize("own", [False, True])
def test_results_err_less_and_weights_lie_on_the_grid(own: bool) -> None:
    rng = np.random.default_rng(2)
    inputs, mean, covariance = moments(rng, 9)
    weights = rng.normal(size=(20, 9))
    given = (np.tile(mean, (20, 1)), np.tile(covariance, (20, 1, 1))) if own else (mean, covariance)
    rounded, shift = round_filters(weights, *given, 63)
    scale = np.abs(weights).max(axis=1, keepdims=True) / 63
    np.testing.assert_allclose(rounded / scale, np.rint(rounded / scale), atol=1e-9)
    np.testing.assert_allclose(np.abs(rounded).max(axis=1), np.abs(weights).max(axis=1))
    nearest = np.rint(weights / scale) * scale
    exact = inputs @ weights.T
    error = inputs @ rounded.T + shift - exact
    np.testing.assert_allclose(error.mean(axis=0), 0, atol=1e-9)
    assert np.square(error).mean() < 0.2 * np.square(inputs @ nearest.T - exact).mean()


def test_dead_inputs_and_empty_filters_are_no_trouble() -> None:
    rounded, shift = round_filters(np.zeros((2, 3)), np.zeros(3), np.zeros((3, 3)))
    assert not rounded.any() and not shift.any()


def test_the_file_answers_more_like_float(few: Bench, tmp_path: Path) -> None:
    quantizer, rules = few.source.quantizer("tflite"), (Rule(".", precision="weight_only"),)
    exact = outputs(few.evaluator.float_path, "tflite", few)
    errors = {}
    for rounding in ("nearest", "fitted"):
        path = tmp_path / f"{rounding}.tflite"
        quantizer.build(path, Recipe(rules=rules, rounding=rounding))
        found = outputs(path, "tflite", few)
        (branch,) = exact[0]
        errors[rounding] = np.mean(
            [np.square(a[branch] - b[branch]).mean() for a, b in zip(found, exact, strict=True)]
        )
    assert errors["fitted"] < 0.2 * errors["nearest"]


def test_operators_that_stay_float_keep_their_weights(few: Bench, tmp_path: Path) -> None:
    quantizer = few.source.quantizer("tflite")
    operators = [op for op in quantizer.operators if op.operation == "DEPTHWISE_CONV_2D"]
    quantizer.build(tmp_path / "mixed.tflite", Recipe(rules=(Rule(".", "DEPTHWISE_CONV_2D"),), rounding="fitted"))
    kernels = []
    for model in (few.source.tflite_float, (tmp_path / "mixed.tflite").read_bytes()):
        parsed = parse_tflite(model)
        graph = parsed.subgraphs[0]
        (own,) = [op for op in graph.operators if tflite_name(graph, op) == operators[0].name]
        kernels.append(tflite_constant(parsed, int(own.inputs[1])))
    np.testing.assert_array_equal(*kernels)


def constants(path: Path) -> int:
    """Bytes of the kernels in a file: of all constants that are larger than a bias."""
    sizes = [len(buffer.data) for buffer in parse_tflite(path.read_bytes()).buffers if buffer.data is not None]
    return sum(size for size in sizes if size > 100)


def test_both_runtimes_get_the_same_weights(few: Bench, tmp_path: Path) -> None:
    (branch,) = few.evaluator.branches
    weights = few.source.activations.rounded(branch, HALF_STEPS)
    assert len(weights) == 4
    (tmp_path / "rounded.tflite").write_bytes(with_weights(few.source.tflite_float, weights))
    assert constants(tmp_path / "rounded.tflite") == constants(few.evaluator.float_path), "the old weights are gone"
    model = read_openvino(few.source.openvino_float)
    with_weights_openvino(model, few.source.tflite_float, weights)
    save_openvino(model, tmp_path / "rounded.xml")
    ours = outputs(tmp_path / "rounded.tflite", "tflite", few)
    theirs = outputs(tmp_path / "rounded.xml", "openvino", few)
    exact = outputs(few.evaluator.float_path, "tflite", few)
    for a, b, c in zip(ours, theirs, exact, strict=True):
        np.testing.assert_allclose(a[branch], b[branch], rtol=1e-3, atol=1e-3)
        assert np.abs(a[branch] - c[branch]).max() > 1e-3


def test_openvino_stores_exactly_the_rounded_weights(few: Bench) -> None:
    (branch,) = few.evaluator.branches
    weights = few.source.activations.rounded(branch, HALF_STEPS)
    model = read_openvino(few.source.openvino_float)
    with_weights_openvino(model, few.source.tflite_float, weights)
    quantized = quantize_openvino(model, few.source.activations.first(1)[0], HALF_STEPS)
    steps = []
    for node in quantized.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize" and node.input_value(0).get_node().get_type_name() == "Constant":
            step = node.input_value(2).get_node().get_data() / 127
            whole = node.input_value(0).get_node().get_data() / step
            np.testing.assert_allclose(whole, np.rint(whole), atol=1e-3)
            steps.append(np.abs(whole).max())
    assert len(steps) == 4 and max(steps) == pytest.approx(HALF_STEPS)


def test_a_recipe_says_how_weights_are_rounded() -> None:
    recipe = parse_recipe({"base": "w8a8", "rounding": "fitted"})
    assert recipe.rounding == "fitted" and parse_recipe(recipe.to_json()) == recipe
    assert "rounding" not in Recipe().to_json()
    with pytest.raises(UsageError, match="rounding is one of nearest, fitted"):
        parse_recipe({"rounding": "up"})
