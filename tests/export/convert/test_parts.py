"""A run with the maps of earlier stages and a logistic head goes the usual way to the device."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.export.convert.head import Dense, Head
from sonoedge.export.convert.splitting import split_model
from sonoedge.train.models.fusion import load_model
from tests.helpers.commands import Result
from tests.helpers.models import SIZE, model_inputs

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, phantoms: Path, weights_dir: Path) -> Path:
    """The default protocol on both backbones at 64 pixels."""
    from tests.helpers.commands import call

    out = tmp_path_factory.mktemp("stages") / "run"
    command = ["train", "--data", phantoms, "--weights", weights_dir, "--backbones", "mobilenetv2,efficientnetb0"]
    assert call(*command, "--input-size", SIZE, "--units", 16, "--quiet", "--out", out) == 0
    return out


@pytest.mark.slow
def test_one_grid_and_a_head_in_closed_form(run: Path) -> None:
    split = split_model(load_model(run))
    assert isinstance(split.head, Head)
    assert split.not_closed == ""
    assert [(b.height, b.width, b.channels) for b in split.head.branches] == [(2, 2, 1280), (2, 2, 1704)]
    assert [type(step) for step in split.head.steps].count(Dense) == 2


@pytest.mark.slow
def test_the_bundle_gives_the_models_probabilities(
    sonoedge: Run, run: Path, phantoms: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    found = sonoedge("export", "--model", run, "--format", "tflite-fp32", "--out", bundle, "--no-gate", "--quiet")
    assert found.code == 0, found.err
    assert sonoedge("verify", bundle).code == 0
    images = find_images(phantoms / "malignant")[:4]
    lines = sonoedge("predict", "--bundle", bundle, "--json", *images).out.splitlines()
    expected = load_model(run).predict(model_inputs(images), verbose=0)[:, 0]
    np.testing.assert_allclose([json.loads(line)["probability"] for line in lines], expected, atol=1e-3)
