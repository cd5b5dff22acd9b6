"""``--weights imagenet``, from a fake download: EfficientNetB0 computes what it does in Keras, in one graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.train.models.backbones import BACKBONES
from sonoedge.train.models.fusion import build_model, load_model, open_model
from tests.helpers.commands import Result
from tests.helpers.models import SIZE, model_inputs

VARIANCE = (1 / 0.229, 1 / 0.224, 1 / 0.225)
"""Of the Normalization: with the second rescaling its layers see what they were made for, without it half."""


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory, weights_dir: Path) -> Path:
    """A ``KERAS_HOME`` with a file of the name and the form of Keras' EfficientNetB0."""
    model = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    model.load_weights(weights_dir / "efficientnetb0_notop.weights.h5")
    home = tmp_path_factory.mktemp("keras")
    (home / "models").mkdir()
    layers = [layer for layer in model.layers if layer.weights]
    with h5py.File(home / "models" / str(BACKBONES["efficientnetb0"].cache_file), "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            values = layer.get_weights()
            if isinstance(layer, keras.layers.Normalization):
                values = [np.zeros(3), np.array(VARIANCE), values[2]]
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [f"{i}".encode() for i in range(len(values))]
            for i, value in enumerate(values):
                group[f"{i}"] = value
    return home


@pytest.fixture
def at_hand(downloaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(downloaded))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(downloaded))  # read once, when Keras is imported
    monkeypatch.setattr("keras.src.utils.file_utils.validate_file", lambda *args, **kwargs: True)


def original() -> keras.Model:
    """As Keras builds it."""
    return keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(SIZE, SIZE, 3))


def layer_types(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


@pytest.mark.slow
@pytest.mark.parametrize("saved", [False, True], ids=["downloaded", "saved as --weights DIR"])
def test_keras_own_weights_give_keras_own_function(
    saved: bool, at_hand: None, phantoms: Path, tmp_path: Path
) -> None:
    theirs = original()
    weights = "imagenet"
    if saved:
        theirs.save_weights(tmp_path / "efficientnetb0_notop.weights.h5")
        weights = str(tmp_path)
    size = (SIZE, SIZE)
    ours = build_model(("efficientnetb0",), weights=weights, input_size=size).backbones["efficientnetb0"]
    plain = build_model(("efficientnetb0",), weights="none", input_size=size).backbones["efficientnetb0"]
    assert layer_types(ours) == layer_types(plain) != layer_types(theirs)
    images = model_inputs(find_images(phantoms)[:4])
    expected = theirs.predict_on_batch(images)
    np.testing.assert_allclose(ours.predict_on_batch(images), expected, rtol=1e-3, atol=1e-3 * expected.std())


@pytest.mark.slow
def test_a_file_without_the_second_rescaling_is_taken_as_it_is(weights_dir: Path, phantoms: Path) -> None:
    plain = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    plain.load_weights(weights_dir / "efficientnetb0_notop.weights.h5")
    ours = build_model(("efficientnetb0",), weights=str(weights_dir), input_size=(SIZE, SIZE))
    images = model_inputs(find_images(phantoms)[:4])
    found = ours.backbones["efficientnetb0"].predict_on_batch(images)
    np.testing.assert_array_equal(found, plain.predict_on_batch(images))


@pytest.mark.slow
def test_score_measures_the_model_that_was_trained(
    sonoedge: Callable[..., Result], at_hand: None, phantoms: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    trained = sonoedge(
        "train", "--data", phantoms, "--backbones", "efficientnetb0", "--weights", "imagenet", "--input-size", SIZE,
        "--units", 8, "--out", run, "--quiet", "--json",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    scored = sonoedge("score", "--model", run, "--data", phantoms, "--quiet", "--json")
    assert scored.code == 0, scored.err
    test = json.loads(trained.out)["metrics"]["test"]
    found = json.loads(scored.out)["metrics"]
    for name in ("auc", "brier", "sensitivity"):
        assert found[name][0] == pytest.approx(test[name][0], abs=1e-5), name


@pytest.mark.slow
def test_score_opens_a_run_with_keras_own_graph(
    sonoedge: Callable[..., Result], at_hand: None, tiny_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    """Runs of earlier versions hold the second rescaling; what they compute is what their file says."""
    theirs = original()
    image = keras.Input((SIZE, SIZE, 3), name="image")
    inner = keras.Model(theirs.input, theirs.output, name="efficientnetb0")
    x = keras.layers.Identity(name="features")(inner(image))
    x = keras.layers.Dense(1, name="logit")(keras.layers.GlobalAveragePooling2D(name="pool")(x))
    keras.Model(image, keras.layers.Activation("sigmoid", name="probability")(x)).save(tmp_path / "model.keras")
    parts = open_model(tmp_path / "model.keras")
    images = model_inputs(find_images(phantoms)[:4])
    features = parts.branches["efficientnetb0"].predict_on_batch(images)
    whole = load_model(tmp_path / "model.keras").predict_on_batch(images)
    np.testing.assert_allclose(parts.head.predict_on_batch(features), whole, rtol=1e-5, atol=1e-6)
