"""Measures of maps against known answers, and the evaluation of a small bundle from end to end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sonoedge.benchmarks.explanations.faithfulness import area_under, perturbation_curves
from sonoedge.benchmarks.explanations.localisation import THRESHOLDS, best_threshold, centre_prior, place
from sonoedge.benchmarks.explanations.maps import top_region_iou
from sonoedge.benchmarks.retention.heatmaps import cosine
from sonoedge.edge_runtime.explain.methods.budget import rank_correlation
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.evaluation.bootstrap import mean_interval
from sonoedge.train.simulation.phantoms import generate_phantoms
from tests.helpers.commands import Result, call


def square(side: int, low: int, high: int) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[low:high, low:high] = True
    return mask


def test_likeness_of_maps() -> None:
    a = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    assert cosine(a, 7 * a) == pytest.approx(1.0)
    assert cosine(a, -a) == pytest.approx(-1.0)
    assert rank_correlation(a, a**3) == pytest.approx(1.0)
    assert rank_correlation(a, -a) == pytest.approx(-1.0)
    assert top_region_iou(a, a) == 1.0
    assert top_region_iou(a, -a, share=0.5) == 0.0
    assert np.isnan(cosine(a, np.zeros_like(a)))
    assert np.isnan(rank_correlation(a, np.ones_like(a)))


def test_a_map_that_is_the_mask() -> None:
    mask = square(20, 5, 10)
    found = place(mask.astype(np.float32), mask)
    assert (found.pointing, found.energy, found.precision, found.noise) == (1.0, 1.0, 1.0, 0.0)
    assert found.focus == found.lesion == pytest.approx(25 / 400)
    np.testing.assert_allclose(found.iou, 1.0)


def test_a_map_beside_the_mask() -> None:
    mask = square(20, 5, 10)
    found = place((~mask).astype(np.float32), mask)
    assert (found.pointing, found.energy, found.precision, found.noise) == (0.0, 0.0, 0.0, 1.0)
    np.testing.assert_array_equal(found.iou, 0.0)


def test_a_uniform_map_gets_chance() -> None:
    mask = square(20, 5, 10)
    found = place(np.ones((20, 20), np.float32), mask)
    for value in (found.energy, found.precision, *found.iou):
        assert value == pytest.approx(found.lesion)


def test_a_zero_map_points_nowhere() -> None:
    mask = square(20, 0, 10)  # the first pixel, where argmax of zeros would land, is inside
    found = place(np.zeros((20, 20), np.float32), mask)
    assert (found.pointing, found.energy, found.focus, found.precision) == (0.0, 0.0, 0.0, 0.0)
    np.testing.assert_array_equal(found.iou, 0.0)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_place_agrees_with_counting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heat = rng.random((9, 11)).astype(np.float32)
    heat /= heat.max()
    mask = rng.random((9, 11)) < 0.3
    mask[0, :2] = (True, False)
    found = place(heat, mask)
    for threshold, iou in zip(THRESHOLDS, found.iou, strict=True):
        region = heat >= threshold
        assert iou == pytest.approx((region & mask).sum() / (region | mask).sum())
    assert found.energy == pytest.approx(heat[mask].sum() / heat.sum(), rel=1e-5)
    assert found.noise == pytest.approx(heat[~mask].mean(), rel=1e-5)
    assert best_threshold([found]) == int(found.iou.argmax())


def test_the_centre_prior_is_symmetric_and_peaks_in_the_middle() -> None:
    prior = centre_prior((7, 9))
    np.testing.assert_allclose(prior, prior[::-1, ::-1], rtol=1e-6)
    assert np.unravel_index(prior.argmax(), prior.shape) == (3, 4)


def test_mean_interval_leaves_undefined_values_out() -> None:
    values = [0.0, 1.0, float("nan"), 0.5]
    found = mean_interval(values, np.array([0, 0, 1, 1]), ["a", "b", "c", "d"])
    assert found.value == pytest.approx(0.5)
    assert found.low <= 0.5 <= found.high
    assert np.isnan(mean_interval([float("nan")], np.array([0]), ["a"]).value)


def test_deletion_and_insertion_of_a_model_that_sees_one_corner() -> None:
    image = np.zeros((1, 8, 8, 3), np.float32)
    image[0, :2, :2] = 255.0
    right = image[0, :, :, 0]

    def score(model_input: np.ndarray) -> float:
        return float(model_input[0, :2, :2].mean()) / 255.0

    def areas(order: np.ndarray) -> tuple[float, float]:
        curves = perturbation_curves(score, image, np.zeros_like(image), order, steps=16)
        assert curves.deletion[0] == curves.insertion[-1] == pytest.approx(1.0)
        assert curves.insertion[0] == 0.0
        return area_under(curves.deletion), area_under(curves.insertion)

    good, bad = areas(right), areas(-right)
    assert good[0] < 0.15 < bad[0]
    assert good[1] > 0.9 > bad[1]


def test_area_under_a_straight_line() -> None:
    assert area_under(np.linspace(1.0, 0.0, 9)) == pytest.approx(0.5)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, run_bundle: Path, tiny_run: Path, phantoms: Path) -> Path:
    out = tmp_path_factory.mktemp("explained") / "report"
    arguments = ["--bundle", run_bundle, "--model", tiny_run, "--data", phantoms, "--out", out, "--quiet"]
    arguments += ["--compare", tiny_run, "--faithfulness-images", 2, "--timing-runs", 5, "--panels", 1]
    assert call("benchmark-explain", *arguments, "--artifacts", "tflite-fp32,tflite-int8") == 0
    return out


@pytest.fixture(scope="module")
def body(report: Path) -> dict:
    return json.loads((report / "explanation.json").read_text())


def test_float_artifacts_keep_the_explanation(body: dict) -> None:
    rows = {row["artifact"]: row for row in body["fidelity"]}
    assert set(rows) == {"tflite-fp32", "tflite-int8"}
    assert rows["tflite-fp32"]["passed"]
    assert rows["tflite-fp32"]["signed"][2] > 0.9999
    assert rows["tflite-fp32"]["bound"] == 0.9999
    assert rows["tflite-int8"]["bound"] == 0.98
    assert rows["tflite-int8"]["signed"][0] < rows["tflite-fp32"]["signed"][0]
    assert all(row["share_error"] < 1e-3 for row in body["fidelity"])


def test_every_map_is_localised_on_every_subset(body: dict) -> None:
    methods = {row["method"] for row in body["localisation"]}
    assert {"Grad-CAM, predicted class", "Grad-CAM, malignant", "EigenCAM", "centre prior"} < methods
    assert {row["subset"] for row in body["localisation"]} == {"test", "test, benign", "test, malignant"}
    assert len(body["localisation"]) == 3 * len(methods)
    for row in body["localisation"]:
        for name, found in row["metrics"].items():
            assert 0.0 <= found["low"] <= found["value"] <= found["high"] <= 1.0, name
    chance = {row["metrics"]["lesion"]["value"] for row in body["localisation"] if row["subset"] == "test"}
    assert len(chance) == 1
    rows = {row["method"]: row for row in body["localisation"] if row["subset"] == "test"}
    prior = rows.pop("centre prior")
    assert prior["versus_centre"] == {}
    for row in rows.values():
        for name, found in row["versus_centre"].items():
            difference = row["metrics"][name]["value"] - prior["metrics"][name]["value"]
            assert found["value"] == pytest.approx(difference, abs=1e-6)


def test_a_compared_model_is_localised_like_its_artifact(body: dict) -> None:
    """The run itself is compared with itself: GradientTape and the float file point at the same places."""
    (model,) = (row for row in body["models"] if row["subset"] == "test" and row["method"] != "centre prior")
    (ours,) = (
        row
        for row in body["localisation"]
        if (row["method"], row["subset"]) == ("Grad-CAM, predicted class", "test")
    )
    assert model["method"] == "mobilenetv2 + efficientnetb0"
    assert model["threshold"] == ours["threshold"]
    for name, found in model["metrics"].items():
        assert found["value"] == pytest.approx(ours["metrics"][name]["value"], abs=1e-3), name


def test_faithfulness_sanity_and_costs(body: dict) -> None:
    assert {row["method"] for row in body["faithfulness"]} == {
        "Grad-CAM",
        "EigenCAM",
        "centre prior",
        "random cells",
    }
    curves = [(row["deletion_curve"], row["insertion_curve"]) for row in body["faithfulness"]]
    # Nothing deleted and everything inserted is the image itself, whatever the order.
    assert {deletion[0] for deletion, _ in curves} == {insertion[-1] for _, insertion in curves} != set()
    assert len({insertion[0] for _, insertion in curves}) == 1
    assert body["sanity"]["overlap"] == 0
    assert body["sanity"]["randomised_head"] < 0.99
    assert {row["artifact"] for row in body["costs"]} == {"tflite-fp32", "tflite-int8"}
    assert all(row["plain_ms"] > 0 and row["eager_over_explained"] > 0 for row in body["costs"])


def test_report_and_pictures(report: Path) -> None:
    text = (report / "explanation.md").read_text()
    assert INTENDED_USE in text
    for line in ("Is the explanation kept?", "*chance*", "needs readers", "eager GradientTape"):
        assert line in text
    for name in ("panels.png", "models.png"):
        with Image.open(report / name) as picture:
            assert picture.width > 300


def test_images_the_bundle_does_not_know(sonoedge: Callable[..., Result], run_bundle: Path, tmp_path: Path) -> None:
    """Without a Keras model and without known images there is no fidelity, and no chosen threshold."""
    data = generate_phantoms(tmp_path / "other", cases_per_class=3, seed=9)
    arguments = ["--bundle", run_bundle, "--artifacts", "tflite-fp32", "--data", data, "--max-images", 8]
    arguments += ["--out", tmp_path / "out", "--timing-runs", 0, "--faithfulness-images", 0, "--panels", 0]
    result = sonoedge("benchmark-explain", *arguments, "--json", "--quiet")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["fidelity"] == found["costs"] == found["models"] == []
    assert {row["threshold"] for row in found["localisation"]} == {0.5}
    assert any("external" in note for note in found["notes"])
    assert any("half the peak" in note for note in found["notes"])
    (row,) = (r for r in found["localisation"] if (r["method"], r["subset"]) == ("EigenCAM", "test"))
    assert row["images"] == 8


def test_data_without_masks(
    sonoedge: Callable[..., Result], run_bundle: Path, phantoms: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for label in ("benign", "malignant"):
        shutil.copytree(phantoms / label, data / label)
    arguments = ["--bundle", run_bundle, "--artifacts", "tflite-fp32", "--data", data, "--max-images", 4, "--quiet"]
    result = sonoedge("benchmark-explain", *arguments, "--out", tmp_path / "out")
    assert result.code == 3
    assert "No image in data has a lesion mask" in result.err


def test_a_compared_run_of_another_split(
    sonoedge: Callable[..., Result], run_bundle: Path, tiny_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_run, other)
    split = json.loads((other / "split.json").read_text())
    for image in split["entries"]:
        image["subset"] = {"test": "train", "train": "test"}.get(image["subset"], image["subset"])
    (other / "split.json").write_text(json.dumps(split))
    arguments = ["--bundle", run_bundle, "--artifacts", "tflite-fp32", "--data", phantoms, "--compare", other]
    arguments += ["--out", tmp_path / "out", "--timing-runs", 0, "--faithfulness-images", 0, "--panels", 0]
    result = sonoedge("benchmark-explain", *arguments, "--quiet")
    assert result.code == 2
    assert "trained or tuned on" in result.err


@pytest.mark.parametrize("option", ["--max-images", "--timing-runs", "--panels", "--faithfulness-images"])
def test_negative_numbers(sonoedge: Callable[..., Result], option: str, tmp_path: Path) -> None:
    result = sonoedge("benchmark-explain", "--data", tmp_path, "--out", tmp_path / "out", option, "-1")
    assert result.code == 2
    assert option in result.err
