"""``sonoedge explain`` on a real bundle: classes, branches, masks, methods, and everything that can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import BundleError
from sonoedge.edge_runtime.explain.gradcam import explanation
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.simulation.phantoms import phantom
from tests.helpers.commands import Result

Run = Callable[..., Result]
IMAGE = "malignant/malignant_0002_b.png"
BRANCHES = ("mobilenetv2", "efficientnetb0")


def explain(sonoedge: Run, bundle: Path, *arguments: object) -> list[dict]:
    result = sonoedge("explain", "--bundle", bundle, "--json", *arguments)
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def test_pictures_numbers_and_summary(sonoedge: Run, run_bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    image, out = phantoms / IMAGE, tmp_path / "heat"
    (body,) = explain(sonoedge, run_bundle, "--mask", phantoms / "masks", "--out", out, image)
    height, width, _ = read_image(image).shape
    assert body == json.loads((out / "malignant_0002_b.json").read_text())
    assert body["explained_label"] == body["label"]
    assert body["panel"] == ["image", "fused", *BRANCHES]
    assert body["intended_use"] == INTENDED_USE
    assert sum(body["logit_shares"].values()) == pytest.approx(body["logit"], abs=1e-4)
    overlay = read_image(out / "malignant_0002_b.overlay.png")
    panel = read_image(out / "malignant_0002_b.panel.png")
    assert overlay.shape == (height, width, 3)
    assert panel.shape == (height, 4 * width + 12, 3)
    assert (panel == (0, 255, 0)).all(axis=2)[:, :width].any()
    with np.load(out / "malignant_0002_b.npz") as archive:
        assert archive["heat"].shape == (height, width)
        total = sum(archive[f"cam_{name}"] for name in BRANCHES)
        x, y = body["peak_xy"]
        assert archive["heat"][y, x] == archive["heat"].max() == 1.0
        # The ReLU is taken of the sum and of each branch: the sum of the parts is never below.
        assert (archive["cam"] <= total + 1e-6).all()


def test_classes_and_branches(sonoedge: Run, run_bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    image, maps = phantoms / IMAGE, {}
    for label in ("benign", "malignant"):
        for branch in ("fused", *BRANCHES):
            out = tmp_path / label / branch
            (body,) = explain(sonoedge, run_bundle, "--class", label, "--branch", branch, "--out", out, image)
            assert (body["explained_label"], body["branch"]) == (label, branch)
            with np.load(out / "malignant_0002_b.npz") as archive:
                maps[label, branch] = archive["cam" if branch == "fused" else f"cam_{branch}"]
                assert bool(archive["heat"].any()) == (body["peak_xy"] is not None)
    for branch in ("fused", *BRANCHES):
        assert not (maps["benign", branch] * maps["malignant", branch]).any()
        assert maps["benign", branch].any() or maps["malignant", branch].any()


def test_predict_and_explain_agree(sonoedge: Run, run_bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    explain(sonoedge, run_bundle, "--out", tmp_path / "a", phantoms / IMAGE)
    arguments = ["--bundle", run_bundle, "--explain", tmp_path / "b", phantoms / IMAGE]
    assert sonoedge("predict", *arguments).code == 0
    for suffix in (".overlay.png", ".panel.png"):
        names = [tmp_path / folder / f"malignant_0002_b{suffix}" for folder in "ab"]
        assert names[0].read_bytes() == names[1].read_bytes()


def test_a_constant_image(sonoedge: Run, run_bundle: Path, tmp_path: Path) -> None:
    Image.new("L", (40, 30), 77).save(tmp_path / "flat.png")
    (body,) = explain(sonoedge, run_bundle, "--out", tmp_path / "heat", tmp_path / "flat.png")
    assert 0.0 <= body["area_above_half_peak"] <= 1.0
    assert np.isfinite(body["logit"])


def test_a_mask_of_another_size_is_stretched(sonoedge: Run, run_bundle: Path, tmp_path: Path) -> None:
    grey, mask = phantom(np.random.default_rng(3), "malignant")
    Image.fromarray(grey).save(tmp_path / "x.png")
    half = (grey.shape[1] // 2, grey.shape[0] // 2)
    Image.fromarray(mask).resize(half).save(tmp_path / "half.png")
    explain(sonoedge, run_bundle, "--mask", tmp_path / "half.png", "--out", tmp_path / "a", tmp_path / "x.png")
    explain(sonoedge, run_bundle, "--out", tmp_path / "b", tmp_path / "x.png")
    with_mask, without = (read_image(tmp_path / folder / "x.panel.png") for folder in "ab")
    changed = (with_mask != without).any(axis=2)[:, : grey.shape[1]]
    assert changed.any()
    rows, columns = np.nonzero(mask)
    changed_rows, changed_columns = np.nonzero(changed)
    assert abs(changed_rows.min() - rows.min()) <= 2
    assert abs(changed_columns.max() - columns.max()) <= 2


def test_a_mask_of_another_shape_fails_its_image_only(
    sonoedge: Run, run_bundle: Path, phantoms: Path, tmp_path: Path
) -> None:
    Image.new("1", (50, 50)).save(tmp_path / "malignant_0002_b.png")
    images = [phantoms / IMAGE, phantoms / "benign" / "benign_0001_a.png"]
    arguments = ["--bundle", run_bundle, "--mask", tmp_path, "--out", tmp_path / "heat", *images]
    result = sonoedge("explain", *arguments)
    assert result.code == 3
    assert "50x50" in result.err
    assert "1 images have no mask" in result.err
    assert [path.name for path in (tmp_path / "heat").glob("*.json")] == ["benign_0001_a.json"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--class", "cyst"], 2, "predicted, benign, malignant"),
        (["--branch", "resnet"], 2, "fused, mobilenetv2, efficientnetb0"),
        (["--opacity", "1.5"], 2, "from 0 to 1"),
        (["--mask", "nowhere"], 2, "No such mask"),
        (["--artifact", "onnx-fp32"], 2, "has no artifact"),
    ],
)
def test_bad_options(
    arguments: list[str], code: int, message: str, sonoedge: Run, run_bundle: Path, phantoms: Path, tmp_path: Path
) -> None:
    result = sonoedge("explain", "--bundle", run_bundle, "--out", tmp_path / "heat", *arguments, phantoms / IMAGE)
    assert result.code == code
    assert message in result.err
    assert not (tmp_path / "heat").exists()


def test_one_mask_file_for_several_images(sonoedge: Run, run_bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    mask = phantoms / "masks" / IMAGE
    result = sonoedge(
        "explain", "--bundle", run_bundle, "--mask", mask, "--out", tmp_path / "h", phantoms / "benign"
    )
    assert result.code == 2
    assert "folder of masks" in result.err


def test_an_artifact_without_explanation_outputs(run_bundle: Path, phantoms: Path) -> None:
    bundle = load_bundle(run_bundle)
    _, outputs = Classifier(bundle).explain_raw(read_image(phantoms / IMAGE))
    plain = {name: outputs[name] for name in ("logit", "probability")}
    with pytest.raises(BundleError, match="without explanation outputs"):
        explanation(bundle, plain, "malignant")
    with pytest.raises(BundleError, match="cam_other"):
        explanation(replace(bundle, branches=(replace(bundle.branches[0], name="other"),)), outputs, "malignant")
