"""Explanations from hand-made head outputs, and their heat maps."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from sonoedge.edge_runtime.bundle.contract import Branch, Bundle, Decision, InputSpec
from sonoedge.edge_runtime.errors import BundleError, UsageError
from sonoedge.edge_runtime.explain.gradcam import (
    Explanation,
    explanation,
    heat_map,
    overlay,
    stretch,
    unit_map,
)
from sonoedge.edge_runtime.words import INTENDED_USE

BUNDLE = Bundle(
    path=Path("nowhere"),
    name="hand-made",
    labels=("benign", "malignant"),
    decision=Decision("threshold", "malignant"),
    input=InputSpec(height=224, width=224),
    branches=(Branch("vgg19", 2, 3, 4), Branch("lite0", 1, 2, 4)),
    artifacts=(),
    provenance={},
    intended_use=INTENDED_USE,
)


CAM = np.array([[1.0, -2.0, 0.0], [0.5, 3.0, -0.25]], np.float32)
CAM_LITE0 = np.array([[-1.0, 4.0]], np.float32)


def head_outputs() -> dict[str, np.ndarray]:
    def scalar(value: float) -> np.ndarray:
        return np.full((1, 1), value, np.float32)

    return {
        "logit": scalar(1.75),
        "probability": scalar(0.852),
        "cam": CAM[None],
        "cam_vgg19": 2 * CAM[None],
        "cam_lite0": CAM_LITE0[None],
        "alpha_vgg19": np.ones((1, 4), np.float32),
        "alpha_lite0": np.ones((1, 4), np.float32),
        "share_vgg19": scalar(2.5),
        "share_lite0": scalar(-1.0),
        "share_bias": scalar(0.25),
    }


def plain(cam: np.ndarray) -> Explanation:
    return Explanation(label="malignant", cam=cam.astype(np.float32), branch_cams={}, shares={"bias": 0.5})


def test_positive_class() -> None:
    result = explanation(BUNDLE, head_outputs(), "malignant")
    assert result.label == "malignant"
    np.testing.assert_array_equal(result.cam, [[1, 0, 0], [0.5, 3, 0]])
    np.testing.assert_array_equal(result.branch_cams["vgg19"], [[2, 0, 0], [1, 6, 0]])
    np.testing.assert_array_equal(result.branch_cams["lite0"], [[0, 4]])
    assert result.cam.dtype == np.float32


def test_the_classes_are_each_others_negation_before_the_relu() -> None:
    outputs = head_outputs()
    positive = explanation(BUNDLE, outputs, "malignant")
    negative = explanation(BUNDLE, outputs, "benign")
    assert negative.label == "benign"
    np.testing.assert_array_equal(positive.cam - negative.cam, CAM)
    np.testing.assert_array_equal(positive.cam * negative.cam, np.zeros_like(CAM))
    assert list(positive.branch_cams) == list(negative.branch_cams) == ["vgg19", "lite0"]
    for name in positive.branch_cams:
        difference = positive.branch_cams[name] - negative.branch_cams[name]
        np.testing.assert_array_equal(difference, outputs[f"cam_{name}"][0])
        assert negative.branch_cams[name].min() >= 0


@pytest.mark.parametrize("label", ["benign", "malignant"])
def test_shares_add_up_to_the_positive_logit(label: str) -> None:
    result = explanation(BUNDLE, head_outputs(), label)
    assert result.shares == {"vgg19": 2.5, "lite0": -1.0, "bias": 0.25}
    assert sum(result.shares.values()) == head_outputs()["logit"].item()


@pytest.mark.parametrize("label", ["cyst", "", "Malignant"])
def test_unknown_label(label: str) -> None:
    with pytest.raises(UsageError, match="benign, malignant"):
        explanation(BUNDLE, head_outputs(), label)


@pytest.mark.parametrize("name", ["cam", "cam_vgg19", "cam_lite0", "share_vgg19", "share_lite0", "share_bias"])
def test_missing_output(name: str) -> None:
    outputs = head_outputs()
    del outputs[name]
    with pytest.raises(BundleError, match=f"without explanation outputs: {name}"):
        explanation(BUNDLE, outputs, "malignant")


def test_zero_map() -> None:
    cam = np.zeros((7, 7), np.float32)
    heat = heat_map(cam, (40, 50))
    assert heat.shape == (40, 50)
    assert not heat.any()
    body = plain(cam).to_json((40, 50))
    assert body["peak_xy"] is None
    assert body["area_above_half_peak"] == 0.0


def test_to_json() -> None:
    cam = np.zeros((4, 4))
    cam[0, 3] = 7.0
    body = plain(cam).to_json((40, 80))
    assert body["explained_label"] == "malignant"
    assert body["logit_shares"] == {"bias": 0.5}
    x, y = body["peak_xy"]
    assert 70 <= x < 80
    assert 0 <= y < 10
    # In units of a cell: a quarter at the peak, two quarters that fall off along one axis down to one half at the
    # border of the cell, and the part of the last quarter where (1 - u)(1 - v) >= 1/2.
    area = 0.25 + 2 * 0.25 + 0.5 - 0.5 * np.log(2)
    assert body["area_above_half_peak"] == pytest.approx(area / 16, rel=0.05)
    assert json.loads(json.dumps(body)) == body


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    scale=st.sampled_from([1e-30, 1e-6, 1.0, 1e30]),
)
def test_heat_map_peaks_at_one(seed: int, grid: tuple[int, int], size: tuple[int, int], scale: float) -> None:
    cam = np.maximum(np.random.default_rng(seed).normal(size=grid), 0) * scale
    assume(cam.any())
    heat = heat_map(cam.astype(np.float32), size)
    assert heat.shape == size
    assert heat.dtype == np.float32
    assert heat.max() == 1.0
    assert heat.min() >= 0.0


def test_heat_map_peaks_at_one_for_a_single_hot_cell() -> None:
    cam = np.zeros((7, 7), np.float32)
    cam[3, 5] = 2.0
    heat = heat_map(cam, (224, 224))
    assert heat.max() == 1.0
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    assert (y // 32, x // 32) == (3, 5)
    assert not heat[:64].any()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
)
def test_maps_are_stretched_as_pillow_does_it(seed: int, grid: tuple[int, int], size: tuple[int, int]) -> None:
    cam = np.random.default_rng(seed).random(grid).astype(np.float32) + np.float32(0.1)
    wanted = np.asarray(Image.fromarray(cam).resize(size[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_allclose(stretch(cam[:, :, None], size)[:, :, 0], wanted, rtol=1e-4)
    np.testing.assert_allclose(heat_map(cam, size), wanted / wanted.max(), rtol=1e-4)


def test_an_overlay_allocates_the_picture_and_little_else() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), dtype=np.uint8)
    cam = np.random.default_rng(1).random((7, 7)).astype(np.float32)
    tracemalloc.start()
    try:
        result = explanation(BUNDLE, head_outputs(), "malignant")
        result.to_json(image.shape[:2])
        _, before = tracemalloc.get_traced_memory()
        overlay(image, unit_map(cam, image.shape[:2]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert before < 0.2 * image.nbytes
    assert peak < 1.2 * image.nbytes


def test_summary_agrees_with_the_full_size_map() -> None:
    outputs = head_outputs()
    body = explanation(BUNDLE, outputs, "malignant").to_json((211, 307))
    heat = heat_map(np.maximum(CAM, 0), (211, 307))
    x, y = body["peak_xy"]
    assert heat[y, x] == pytest.approx(1.0, abs=1e-6)
    assert body["area_above_half_peak"] == pytest.approx((heat >= 0.5).mean(), abs=1e-3)


def test_map_of_a_branch() -> None:
    result = explanation(BUNDLE, head_outputs(), "malignant")
    np.testing.assert_array_equal(result.map_of("lite0"), result.branch_cams["lite0"])
    np.testing.assert_array_equal(result.map_of(), result.cam)
    assert result.to_json((20, 20), "lite0")["peak_xy"][0] >= 10
    with pytest.raises(UsageError, match="fused, vgg19, lite0"):
        result.map_of("resnet")
