"""Explanations from hand-made head outputs, heat maps, overlays, and the names of the files written."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from sonoedge.benchmarks.explanations.eigencam import eigen_cam
from sonoedge.edge_runtime.bundle.contract import Branch, Bundle, InputSpec
from sonoedge.edge_runtime.commands.predict import output_stems
from sonoedge.edge_runtime.errors import BundleError, DataError, UsageError
from sonoedge.edge_runtime.explain.colormap import COLORMAP
from sonoedge.edge_runtime.explain.gradcam import (
    Explanation,
    contour,
    explanation,
    heat_map,
    overlay,
    panel,
    stretch,
    unit_map,
)
from sonoedge.edge_runtime.imaging.masks import find_mask, read_mask
from sonoedge.edge_runtime.words import INTENDED_USE

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


def test_panel_is_image_and_overlays_side_by_side() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    heats = [heat_map(np.eye(3, dtype=np.float32), (12, 20)), np.eye(2, dtype=np.float32)]
    drawn = panel(image, heats)
    assert drawn.shape == (12, 68, 3)
    np.testing.assert_array_equal(drawn[:, :20], image)
    np.testing.assert_array_equal(drawn[:, 20:24], 255)
    np.testing.assert_array_equal(drawn[:, 24:44], overlay(image, heats[0]))
    np.testing.assert_array_equal(drawn[:, 48:], overlay(image, heats[1]))
    mask = np.zeros((6, 10), bool)
    mask[2:4, 3:7] = True
    outlined = panel(image, heats[:1], mask)
    np.testing.assert_array_equal(outlined[:, :20], contour(image, mask))
    np.testing.assert_array_equal(outlined[:, 24:], contour(overlay(image, heats[0]), mask))


def test_a_small_map_is_drawn_like_the_large_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 131, 3), dtype=np.uint8)
    cam = np.maximum(np.random.default_rng(1).normal(size=(7, 7)), 0).astype(np.float32)
    small = overlay(image, unit_map(cam, (90, 131))).astype(int)
    large = overlay(image, heat_map(cam, (90, 131))).astype(int)
    assert np.abs(small - large).max() <= 1


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


def test_eigen_cam_finds_the_common_pattern() -> None:
    rng = np.random.default_rng(0)
    pattern = np.zeros((4, 4), np.float32)
    pattern[1, 2], pattern[2, 2] = 1.0, 0.5
    maps = {
        name: pattern[None, :, :, None] * rng.random(size).astype(np.float32) for name, size in (("a", 6), ("b", 9))
    }
    found = eigen_cam(maps)
    np.testing.assert_allclose(found / found.max(), pattern, atol=1e-5)
    assert found.dtype == np.float32
    # Singular value times singular vector.
    assert np.linalg.norm(found) == pytest.approx(
        np.linalg.norm(np.concatenate([m.reshape(16, -1) for m in maps.values()], axis=1)), rel=1e-5
    )


def test_eigen_cam_of_branches_with_different_grids() -> None:
    rng = np.random.default_rng(0)
    maps = {"a": rng.random((1, 7, 7, 5)).astype(np.float32), "b": rng.random((1, 5, 5, 3)).astype(np.float32)}
    wide = [stretch(m[0], (7, 7)).reshape(49, -1) for m in maps.values()]
    left, values, _ = np.linalg.svd(np.concatenate(wide, axis=1), full_matrices=False)
    np.testing.assert_allclose(eigen_cam(maps).ravel(), np.abs(left[:, 0]) * values[0], rtol=1e-3)


def test_eigen_cam_of_nothing() -> None:
    assert not eigen_cam({"a": np.zeros((1, 3, 3, 4), np.float32)}).any()


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("high", [1, 255])
def test_read_mask_of_another_size(tmp_path: Path, high: int) -> None:
    array = np.zeros((10, 20), np.uint8)
    array[2:5, 5:10] = high
    found = read_mask(save(tmp_path / "m.png", array), (40, 80))
    wanted = np.zeros((40, 80), bool)
    wanted[8:20, 20:40] = True
    np.testing.assert_array_equal(found, wanted)


def test_read_mask_of_another_shape(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.zeros((10, 20), np.uint8))
    with pytest.raises(DataError, match="20x10 for an image of 80x80"):
        read_mask(path, (80, 80))
    assert not read_mask(path, (40, 80)).any()


def test_read_mask_allows_a_pixel_of_rounding(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.full((241, 320), 255, np.uint8))
    assert read_mask(path, (361, 480)).all()


def test_find_mask(tmp_path: Path) -> None:
    same = save(tmp_path / "masks" / "benign" / "x.png", np.zeros((2, 2), np.uint8))
    flat = save(tmp_path / "masks" / "y.png", np.zeros((2, 2), np.uint8))
    other = save(tmp_path / "masks" / "malignant" / "x.png", np.zeros((2, 2), np.uint8))
    masks = tmp_path / "masks"
    assert find_mask(masks, Path("data/benign/x.png")) == same
    assert find_mask(masks, Path("data/malignant/x.jpg")) == other
    assert find_mask(masks, Path("data/benign/y.jpg")) == flat
    assert find_mask(masks, Path("data/benign/z.png")) is None
    assert find_mask(flat, Path("data/benign/z.png")) == flat


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


@settings(max_examples=200)
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


@settings(max_examples=200)
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
