"""Explanations from hand-made head outputs, heat maps, overlays, and the names of the files written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge_runtime.bundle import INTENDED_USE, Branch, Bundle, InputSpec
from edge_runtime.colormap import COLORMAP
from edge_runtime.commands.predict import output_stems
from edge_runtime.errors import BundleError, UsageError
from edge_runtime.explain import Explanation, contour, explanation, heat_map, overlay, panel

BUNDLE = Bundle(
    path=Path("nowhere"),
    name="hand-made",
    labels=("benign", "malignant"),
    positive_label="malignant",
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


@settings(max_examples=60, deadline=None)
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


def test_overlay_leaves_cold_regions() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    before = image.copy()
    heat = np.zeros((30, 40), np.float32)
    heat[10:20, 10:30] = np.linspace(0.2, 1.0, 20, dtype=np.float32)
    drawn = overlay(image, heat)
    assert drawn.dtype == np.uint8
    assert drawn.shape == image.shape
    np.testing.assert_array_equal(drawn[heat == 0], image[heat == 0])
    assert (drawn[heat > 0] != image[heat > 0]).any()
    np.testing.assert_array_equal(image, before)


def test_overlay_opacity() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    hot = np.ones((4, 4), np.float32)
    np.testing.assert_array_equal(overlay(image, hot, opacity=0.0), image)
    opaque = overlay(image, hot, opacity=1.0)
    np.testing.assert_array_equal(opaque[0, 0], np.rint(COLORMAP[255]))
    half = overlay(image, hot, opacity=0.5)[0, 0].astype(float)
    np.testing.assert_allclose(half, (100 + COLORMAP[255]) / 2, atol=0.51)


@pytest.mark.parametrize("value", [0, 255])
def test_constant_image(value: int) -> None:
    image = np.full((20, 30, 3), value, np.uint8)
    np.testing.assert_array_equal(overlay(image, np.zeros((20, 30), np.float32)), image)
    hot = overlay(image, np.ones((20, 30), np.float32)).astype(float)
    np.testing.assert_allclose(hot, np.broadcast_to((value + COLORMAP[255]) / 2, hot.shape), atol=0.51)


def test_colour_table_rises_in_lightness() -> None:
    assert COLORMAP.shape == (256, 3)
    assert COLORMAP.min() >= 0
    assert COLORMAP.max() <= 255
    assert (np.diff(COLORMAP @ [0.2126, 0.7152, 0.0722]) > 0).all()


def test_contour_with_a_mask_of_another_size() -> None:
    image = np.full((40, 80, 3), 9, np.uint8)
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    drawn = contour(image, mask, (0, 255, 0))
    green = (drawn == (0, 255, 0)).all(axis=2)
    expected = np.zeros((40, 80), bool)
    expected[10:30, 20:60] = True
    expected[11:29, 21:59] = False
    np.testing.assert_array_equal(green, expected)
    np.testing.assert_array_equal(drawn[~green], image[~green])
    assert (image == 9).all()


@pytest.mark.parametrize("filled", [True, False])
def test_contour_of_a_mask_without_an_edge(filled: bool) -> None:
    image = np.full((8, 8, 3), 9, np.uint8)
    np.testing.assert_array_equal(contour(image, np.full((3, 3), filled)), image)


def test_panel_is_image_and_overlay_side_by_side() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    heat = heat_map(np.eye(3, dtype=np.float32), (12, 20))
    drawn = panel(image, heat)
    assert drawn.shape == (12, 44, 3)
    np.testing.assert_array_equal(drawn[:, :20], image)
    np.testing.assert_array_equal(drawn[:, 20:24], 255)
    np.testing.assert_array_equal(drawn[:, 24:], overlay(image, heat))
    mask = np.zeros((6, 10), bool)
    mask[2:4, 3:7] = True
    outlined = panel(image, heat, mask)
    np.testing.assert_array_equal(outlined[:, :20], contour(image, mask))
    np.testing.assert_array_equal(outlined[:, 24:], contour(overlay(image, heat), mask))


def stems(*names: str) -> list[str]:
    return [stem.as_posix() for stem in output_stems([Path(name) for name in names])]


def test_unique_stems_stay_as_they_are() -> None:
    assert stems("a/x.png", "b/y.png", "/deep/er/z.v2.jpg") == ["x", "y", "z.v2"]
    assert stems() == []


def test_equal_stems_are_mirrored_as_sub_folders() -> None:
    assert stems("d/a/x.png", "d/b/x.png", "d/b/y.png") == ["a/x", "b/x", "y"]
    assert stems("d/x.png", "d/sub/x.png") == ["x", "sub/x"]
    assert stems("d/a/1/x.png", "d/b/1/x.png") == ["a/1/x", "b/1/x"]


def test_two_suffixes_in_one_folder_are_kept() -> None:
    assert stems("d/x.png", "d/x.jpg") == ["x.png", "x.jpg"]
    assert stems("d/x.png", "d/x.jpg", "e/x.png") == ["d/x.png", "d/x.jpg", "e/x"]


@settings(max_examples=200, deadline=None)
@given(
    st.sets(
        st.tuples(
            st.lists(st.sampled_from(["a", "b", "x"]), max_size=3).map(tuple),
            st.sampled_from(["x", "y", "x.v2"]),
            st.sampled_from([".png", ".jpg", ".PNG"]),
        ),
        max_size=8,
    )
)
def test_stems_are_all_different(parts: set[tuple[tuple[str, ...], str, str]]) -> None:
    paths = [Path("/data/one").joinpath(*folders, stem + suffix) for folders, stem, suffix in sorted(parts)]
    found = output_stems(paths)
    assert len(found) == len(paths)
    assert len(set(found)) == len(found)
    assert not any(stem.is_absolute() or ".." in stem.parts for stem in found)


def test_a_stem_that_is_another_files_name() -> None:
    assert len(set(stems("d/x.png", "d/x.jpg", "d/x.png.png", "d/x.png.png.png"))) == 4


def test_stems_never_leave_the_output_folder() -> None:
    found = stems("../other/x.png", "here/x.png", "here/../../third/x.png")
    assert len(set(found)) == 3
    assert not any(".." in name or name.startswith("/") for name in found)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["a", "b", "x.png", ".."]), max_size=3),
            st.sampled_from(["x", "y", "x.png", "x.jpg"]),
            st.sampled_from([".png", ".jpg", ".png.png", ""]),
        ),
        max_size=8,
    )
)
def test_stems_of_awkward_paths_are_all_different(parts: list[tuple[list[str], str, str]]) -> None:
    base = Path("/data/one/two/three")
    paths = [base.joinpath(*folders, stem + suffix) for folders, stem, suffix in parts]
    different = list({path.resolve(): path for path in paths}.values())
    found = output_stems(different)
    assert len(found) == len(different)
    assert len(set(found)) == len(found)
    assert not any(stem.is_absolute() or ".." in stem.parts for stem in found)
