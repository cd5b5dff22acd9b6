"""``sonoedge slim``: a chain of convolutions with a fraction of its multiply-adds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import Result, model_inputs

from train.backbones import BACKBONES, Backbone
from train.metrics import sigmoid
from train.model import load_model
from train.slim import rank_of, slim_backbone

Command = Callable[..., Result]


def chain(input_shape: tuple, name: str = "chain", **_: object) -> keras.Model:
    image = keras.Input(input_shape)
    x = image
    for width in (6, 8, 10):
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv{width}")(x)
        x = keras.layers.MaxPooling2D()(x)
    return keras.Model(image, x, name=name)


@pytest.fixture
def chain_backbone(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(keras.applications, "chain", chain, raising=False)
    monkeypatch.setitem(
        BACKBONES, "chain", Backbone("chain", "chain.h5", scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3)
    )
    return "chain"


@pytest.mark.parametrize("speedup", [2.0, 4.0, 8.0])
def test_multiply_adds_are_divided(speedup: float) -> None:
    for inputs, outputs in ((64, 128), (512, 512)):
        rank = rank_of(inputs, outputs, speedup)
        macs = rank * (9 * inputs + outputs)
        assert 0.95 * speedup < 9 * inputs * outputs / macs < 1.1 * speedup


def test_outputs_of_low_rank_are_kept_exactly() -> None:
    keras.utils.set_random_seed(0)
    model = chain((16, 16, 3))
    rng = np.random.default_rng(0)
    for width in (8, 10):
        layer = model.get_layer(f"conv{width}")
        kernel, bias = layer.get_weights()
        directions = np.linalg.qr(rng.normal(size=(width, 2)))[0]
        layer.set_weights([kernel @ directions @ directions.T, rng.normal(size=bias.shape)])
    images = rng.normal(size=(8, 16, 16, 3)).astype(np.float32)
    slim = slim_backbone(model, images, 2.5)
    assert slim.get_layer("conv8_narrow").filters == rank_of(6, 8, 2.5) >= 2
    assert slim.get_layer("conv10_narrow").filters >= 2
    np.testing.assert_array_equal(slim.get_layer("conv6").kernel, model.get_layer("conv6").kernel)
    fresh = rng.normal(size=(4, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(slim.predict(fresh, verbose=0), model.predict(fresh, verbose=0), atol=1e-4)


def test_a_slim_run_is_like_any_other(
    sonoedge: Command, chain_backbone: str, phantoms: Path, tmp_path: Path
) -> None:
    options = ["--weights", "none", "--backbones", "chain", "--input-size", 32, "--protocol", "paper", "--units", 4]
    run, out = tmp_path / "run", tmp_path / "slim"
    assert sonoedge("train", "--data", phantoms, *options, "--out", run, "--quiet").code == 0
    arguments = ["--teacher", run, "--data", phantoms, "--speedup", 2, "--images", 8, "--out", out, "--quiet"]
    result = sonoedge("slim", *arguments, "--json")
    assert result.code == 0, result.err
    card = json.loads(result.out)
    assert card["settings"]["speedup"] == 2.0
    assert abs(card["distillation"]["auc_minus_teacher"]["test"][0]) <= 1
    assert load_model(out).count_params() < load_model(run).count_params()
    rows = [line.split(",") for line in (out / "predictions.csv").read_text().splitlines()[1:]]
    probability = load_model(out).predict(model_inputs([phantoms / row[0] for row in rows], 32), verbose=0)
    np.testing.assert_allclose(sigmoid([float(row[-1]) for row in rows]), probability[:, 0], atol=1e-4)
    again = sonoedge("slim", *arguments)
    assert (again.code, "--overwrite" in again.err) == (2, True)


def test_refusals(sonoedge: Command, tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path) -> None:
    options = ["--weights", "none", "--backbones", "tiny_a", "--input-size", 32, "--protocol", "paper", "--quiet"]
    run, out = tmp_path / "run", tmp_path / "slim"
    assert sonoedge("train", "--data", phantoms, *options, "--out", run).code == 0
    (tmp_path / "empty").mkdir()
    for teacher, data, more, code, message in (
        (run, phantoms, [], 6, "plain chain of convolutions"),
        (tmp_path / "none", phantoms, [], 6, "No such run folder"),
        (run, phantoms, ["--speedup", 0.5], 2, "--speedup"),
    ):
        result = sonoedge("slim", "--teacher", teacher, "--data", data, "--out", out, "--quiet", *more)
        assert (result.code, message in result.err) == (code, True), result.err
        assert not out.exists()
