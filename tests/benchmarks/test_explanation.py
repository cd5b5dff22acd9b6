"""Measures of maps against known answers, and the evaluation of a small bundle from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.explanation_metrics import (
    THRESHOLDS,
    area_under,
    best_threshold,
    centre_prior,
    cosine,
    mean_interval,
    perturbation_curves,
    place,
    spearman,
    top_region_iou,
)


def square(side: int, low: int, high: int) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[low:high, low:high] = True
    return mask


def test_likeness_of_maps() -> None:
    a = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    assert cosine(a, 7 * a) == pytest.approx(1.0)
    assert cosine(a, -a) == pytest.approx(-1.0)
    assert spearman(a, a**3) == pytest.approx(1.0)
    assert spearman(a, -a) == pytest.approx(-1.0)
    assert top_region_iou(a, a) == 1.0
    assert top_region_iou(a, -a, share=0.5) == 0.0
    assert np.isnan(cosine(a, np.zeros_like(a)))
    assert np.isnan(spearman(a, np.ones_like(a)))


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


@settings(max_examples=60, deadline=None)
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
    from tests.conftest import call

    out = tmp_path_factory.mktemp("explained") / "report"
    arguments = ["--bundle", run_bundle, "--model", tiny_run, "--data", phantoms, "--out", out, "--quiet"]
    arguments += ["--compare", tiny_run, "--faithfulness-images", 2, "--timing-runs", 5, "--panels", 1]
    assert call("benchmark-explain", *arguments) == 0
    return out


def test_float_artifacts_keep_the_explanation(report: Path) -> None:
    body = json.loads((report / "explanation.json").read_text())
    rows = {row["artifact"]: row for row in body["fidelity"]}
    assert set(rows) == {"tflite-fp32", "tflite-int8"}
    assert rows["tflite-fp32"]["passed"]
    assert rows["tflite-fp32"]["signed"][2] > 0.9999
    assert rows["tflite-fp32"]["bound"] == 0.9999
    assert rows["tflite-int8"]["bound"] == 0.98
    assert rows["tflite-int8"]["signed"][0] < rows["tflite-fp32"]["signed"][0]
    assert all(row["share_error"] < 1e-3 for row in body["fidelity"])
