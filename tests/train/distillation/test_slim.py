"""``sonoedge slim``: a chain of convolutions with a fraction of its multiply-adds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoedge.train.distillation.least_squares import fit_dense
from sonoedge.train.distillation.low_rank import multiply_adds, rank_of, slim_chain
from sonoedge.train.evaluation.metrics import sigmoid
from sonoedge.train.models.backbones import BACKBONES, Backbone
from sonoedge.train.models.fusion import load_model
from tests.helpers.commands import Result
from tests.helpers.models import model_inputs

Command = Callable[..., Result]
WIDTHS = (16, 24, 32)


def chain(input_shape: tuple, name: str = "chain", **_: object) -> keras.Model:
    image = keras.Input(input_shape)
    x = image
    for width in WIDTHS:
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv{width}")(x)
        x = keras.layers.MaxPooling2D()(x)
    return keras.Model(image, x, name=name)


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def random_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 16, 16, 3)).astype(np.float32)


def normed(input_shape: tuple, name: str = "normed", **_: object) -> keras.Model:
    """Like EfficientNetB0 it normalises by weights, which count only once the layer has been told so."""
    image = keras.Input(input_shape)
    norm = keras.layers.Normalization(name="norm")
    norm.adapt(np.random.default_rng(0).normal(128, 50, (8, *input_shape)))
    x = keras.layers.Conv2D(8, 3, strides=8, padding="same", activation="relu")(norm(image))
    return keras.Model(image, x, name=name)


@pytest.fixture
def backbones(monkeypatch: pytest.MonkeyPatch) -> str:
    for name, build in (("chain", chain), ("normed", normed)):
        monkeypatch.setattr(keras.applications, name, build, raising=False)
        row = Backbone(name, f"{name}.h5", scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3)
        monkeypatch.setitem(BACKBONES, name, row)
    return "chain,normed"


@pytest.mark.parametrize("divisor", [2.0, 4.0, 8.0])
def test_multiply_adds_are_divided(divisor: float) -> None:
    for inputs, outputs in ((64, 128), (128, 256), (512, 512)):
        rank = rank_of(inputs, outputs, divisor)
        assert rank % 8 == 0
        assert 0.8 * divisor < 9 * inputs * outputs / (rank * (9 * inputs + outputs)) < 1.25 * divisor


def test_outputs_of_low_rank_are_kept_exactly() -> None:
    keras.utils.set_random_seed(0)
    model = chain((16, 16, 3))
    rng = np.random.default_rng(0)
    for width in WIDTHS[1:]:
        layer = model.get_layer(f"conv{width}")
        kernel, bias = layer.get_weights()
        directions = np.linalg.qr(rng.normal(size=(width, 8)))[0]
        layer.set_weights([kernel @ directions @ directions.T, rng.normal(size=bias.shape)])
    slim = slim_chain(model, random_images(8), 2.5)
    assert [slim.get_layer(f"conv{width}_narrow").filters for width in WIDTHS[1:]] == [8, 8]
    np.testing.assert_array_equal(slim.get_layer("conv16").kernel, model.get_layer("conv16").kernel)
    fresh = random_images(4, seed=1)
    whole = model.predict(fresh, verbose=0)
    np.testing.assert_allclose(slim.predict(fresh, verbose=0), whole, atol=2e-3 * np.abs(whole).max())


def test_more_directions_are_closer_to_the_whole_layer() -> None:
    keras.utils.set_random_seed(0)
    model = chain((16, 16, 3))
    fresh = random_images(8, seed=1)
    whole = model.predict(fresh, verbose=0)
    errors = []
    for divisor in (0.5, 2.0, 2.8):
        slim = slim_chain(model, random_images(16), divisor)
        errors.append(np.square(slim.predict(fresh, verbose=0) - whole).mean() / whole.var())
    assert errors[0] < 1e-6 < errors[1] <= errors[2] < 1


def test_an_identity_layer_brings_no_gain() -> None:
    model, easy = chain((16, 16, 3)), keras.models.clone_model(chain((16, 16, 3)))
    layer = easy.get_layer("conv24")
    kernel = np.zeros(layer.kernel.shape, np.float32)
    kernel[1, 1, :, :16] = np.eye(16)
    layer.set_weights([kernel, np.zeros(24, np.float32)])
    counts = [multiply_adds(slim_chain(m, random_images(4), 2.0)) for m in (model, easy)]
    assert counts[0] == counts[1] < multiply_adds(model)


@given(seed=st.integers(0, 999), strength=st.sampled_from([0.0, 1e-2, 1e9]))
@settings(max_examples=20)
def test_least_squares_between_the_data_and_the_start(seed: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    x, true, start = rng.normal(size=(40, 3)), rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    kernel, bias = fit_dense(x, x @ true + 5, start, strength)
    expected = start if strength == 1e9 else true
    np.testing.assert_allclose(kernel, expected, atol=0.2 if strength == 1e-2 else 1e-5)
    np.testing.assert_allclose(x.mean(axis=0) @ kernel + bias, (x @ true + 5).mean(axis=0), atol=1e-4)


@pytest.mark.slow
def test_a_slim_run_is_like_any_other(
    sonoedge: Command, backbones: str, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "--weights",
        "none",
        "--backbones",
        backbones,
        "--input-size",
        32,
        "--protocol",
        "paper",
        "--units",
        4,
    ]
    run, out = tmp_path / "run", tmp_path / "slim"
    assert sonoedge("train", "--data", phantoms, *options, "--out", run, "--quiet").code == 0
    arguments = ["--teacher", run, "--data", phantoms, "--divisor", 2, "--images", 8, "--out", out, "--quiet"]
    arguments += ["--feature-cache", tmp_path / "cache" / "features"]
    with monkeypatch.context() as broken:
        broken.setattr("sonoedge.train.distillation.slim.write_derived_run", interrupt)
        assert sonoedge("slim", *arguments).code != 0
        assert not out.exists()
    # What took long is kept, and not done again.
    monkeypatch.setattr("sonoedge.train.distillation.slim.slim_chain", interrupt)
    result = sonoedge("slim", *arguments, "--json")
    assert result.code == 0, result.err
    card = json.loads(result.out)
    assert card["settings"]["divisor"] == 2.0
    assert abs(card["distillation"]["auc_minus_teacher"]["test"][0]) <= 1
    assert load_model(out).count_params() < load_model(run).count_params()
    rows = [line.split(",") for line in (out / "predictions.csv").read_text().splitlines()[1:]]
    probability = load_model(out).predict(model_inputs([phantoms / row[0] for row in rows], 32), verbose=0)
    np.testing.assert_allclose(sigmoid([float(row[-1]) for row in rows]), probability[:, 0], atol=1e-5)
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
        (run, phantoms, ["--images", 0], 2, "--images"),
        (run, phantoms, ["--divisor", 0.5], 2, "--divisor"),
    ):
        result = sonoedge("slim", "--teacher", teacher, "--data", data, "--out", out, "--quiet", *more)
        assert (result.code, message in result.err) == (code, True), result.err
        assert not out.exists()
