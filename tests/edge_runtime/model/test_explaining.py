"""`model.explain` and `sonoedge explain --method` on real bundles: single, cascade, refused, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sonoedge
from sonoedge.edge_runtime.model.cascade import Cascade
from tests.helpers.commands import Result
from tests.helpers.pictures import ARTIFACT, board, grey
from tests.helpers.places import VECTORS

METHODS = ("gradcam", "scorecam", "occlusion", "rise")
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def model() -> sonoedge.Predictor:
    return sonoedge.load(VECTORS / "bundle", ARTIFACT, threads=1)


@pytest.mark.parametrize("method", METHODS)
def test_one_call_for_all_methods(model: sonoedge.Predictor, method: str) -> None:
    result = model(grey())
    for label in model.bundle.labels:
        why = model.explain(grey(), method=method, label=label)
        assert (why.method, why.label) == (method, label)
        assert why.shares == result.explain(label).shares
        assert why.cam.dtype == np.float32 and why.cam.min() >= 0.0 and np.isfinite(why.cam).all()
        assert (why.calls + why.head_calls > 0) == (method != "gradcam")
        assert ("cost" in why.to_json((40, 50))) == (method != "gradcam")


@pytest.mark.parametrize("method", METHODS[1:])
def test_what_speaks_for_one_class_speaks_against_the_other(model: sonoedge.Predictor, method: str) -> None:
    """Both maps are cut at zero, so that no place speaks for both."""
    maps = [model.explain(grey(), method=method, label=label).cam for label in model.bundle.labels]
    assert maps[0].any() or maps[1].any()
    assert not (maps[0] * maps[1]).any()


def test_gradcam_is_the_default_and_what_comes_with_the_answer(model: sonoedge.Predictor) -> None:
    why, plain = model.explain(grey()), model(grey()).explain()
    np.testing.assert_array_equal(why.cam, plain.cam)
    assert list(why.branch_cams) == list(plain.branch_cams)


def test_the_logit_of_the_maps_is_the_logit(model: sonoedge.Predictor) -> None:
    result = model(grey())
    assert result.outputs is not None
    decided = model.deciding_model(result)
    maps = {key.removeprefix("map_"): array for key, array in result.outputs.items() if key.startswith("map_")}
    assert decided.logit_of_maps(maps) == pytest.approx(result.logit, abs=1e-6)


@pytest.mark.parametrize(("margin", "which"), [(0.0, "first"), (1e9, "full")])
def test_a_cascade_explains_the_model_that_decided(margin: float, which: str) -> None:
    """The cheap model's maps are on the scale of the cascade's logits, as its Grad-CAM maps are."""
    cascade = sonoedge.load(VECTORS / "cascade", threads=1)
    assert isinstance(cascade, Cascade)
    cascade.spec = replace(cascade.spec, margin=margin)
    single, scale = getattr(cascade, which), cascade.spec.scale if which == "first" else 1.0
    ours, alone = (
        model.explain(grey(), method="occlusion", label=model.bundle.positive_label, ungated=True)
        for model in (cascade, single)
    )
    assert alone.cam.any() and not alone.cam.all()
    np.testing.assert_allclose(ours.cam, scale * alone.cam, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_refused_is_not_explained(model: sonoedge.Predictor, method: str) -> None:
    with pytest.raises(sonoedge.UsageError, match="was refused"):
        model.explain(board(), method=method)


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
def test_a_wrong_budget(model: sonoedge.Predictor, budget: float) -> None:
    with pytest.raises(sonoedge.UsageError, match="seconds above 0"):
        model.explain(grey(), method="rise", budget=budget)


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    path = tmp_path / "frame.png"
    Image.fromarray(grey()).save(path)
    return path


def test_the_command(sonoedge: Run, frame: Path, tmp_path: Path) -> None:
    arguments = ["--bundle", VECTORS / "bundle", "--artifact", ARTIFACT, "--threads", 1, "--method", "occlusion"]
    result = sonoedge("explain", *arguments, "--out", tmp_path / "heat", "--json", frame)
    assert result.code == 0, result.err
    body = json.loads(result.out)
    assert body["method"] == "occlusion" and 36 <= body["cost"]["calls"] <= 121
    assert body["panel"] == ["image", "fused"]
    with np.load(tmp_path / "heat" / "frame.npz") as archive:
        assert archive["cam"].shape == (12, 12)
    text = sonoedge("explain", *arguments, "--budget", 1e-9, "--out", tmp_path / "none", frame)
    assert text.code == 0
    assert "Partial result: 1e-09 s were enough for 0 of 121 steps." in text.out
    assert "not a medical device" in text.err.lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "score-cam"], "Did you mean 'scorecam'?"),
        (["--method", "rise", "--budget", "0"], "above 0. Received: 0.0"),
        (["--method", "rise", "--budget", "nan"], "above 0. Received: nan"),
        (["--budget", "5"], "--budget does nothing with gradcam"),
        (["--method", "rise", "--branch", "branch_0"], "Only gradcam has a map for each branch"),
    ],
)
def test_what_is_wrong_is_one_sentence(sonoedge: Run, frame: Path, arguments: list[str], message: str) -> None:
    result = sonoedge("explain", "--bundle", VECTORS / "bundle", *arguments, frame)
    assert result.code == 2
    assert message in result.err and len(result.err.splitlines()) == 1


def test_a_refused_image_leaves_no_map(sonoedge: Run, tmp_path: Path) -> None:
    Image.fromarray(board()).save(tmp_path / "board.png")
    arguments = ["--bundle", VECTORS / "bundle", "--artifact", ARTIFACT, "--method", "rise"]
    result = sonoedge("explain", *arguments, "--out", tmp_path / "heat", tmp_path / "board.png")
    assert result.code == 11
    assert not list(tmp_path.glob("heat/*"))
