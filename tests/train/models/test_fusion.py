"""The fusion model: layer names, grids, preprocessing inside the graph, and weights that cannot be had."""

from __future__ import annotations

import importlib
import urllib.error
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from sonoedge.edge_runtime.errors import ModelError, UsageError
from sonoedge.train.models import backbones
from sonoedge.train.models.backbones import (
    BACKBONES,
    imagenet_at_hand,
    parse_backbones,
    weights_digest,
)
from sonoedge.train.models.fusion import FusionModel, HeadSpec, build_model, load_model
from sonoedge.train.models.keras_files import imagenet_reachable


def images(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 255, (count, size, size, 3)).astype(np.float32)


def branch_features(model: FusionModel, batch: np.ndarray) -> list[np.ndarray]:
    return [branch.predict_on_batch(batch) for branch in model.branches.values()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "size", "joined"),
    [
        (("mobilenetv2",), 64, (None, 2, 2, 1280)),
        (("mobilenetv2", "efficientnetb0"), 64, (None, 2, 2, 2560)),
        # 3x3 against 1x1: pooled first.
        (("mobilenetv2", "inceptionv3"), 96, (None, 3328)),
    ],
)
def test_model_and_its_parts_agree(names: tuple[str, ...], size: int, joined: tuple[int | None, ...]) -> None:
    keras.utils.set_random_seed(0)
    model = build_model(names, weights="none", input_size=(size, size), head=HeadSpec(units=(8, 4)))
    assert model.full.input_shape == (None, size, size, 3)
    assert model.full.get_layer("features").output.shape == joined
    assert model.full.get_layer("logit").output.shape == (None, 1)
    assert model.full.layers[-1].name == "probability"
    assert [layer.name for layer in model.full.layers if layer.name.startswith("fc")] == ["fc1", "fc2"]
    assert tuple(model.branches) == tuple(model.backbones) == names
    assert all(not backbone.trainable for backbone in model.backbones.values())
    batch = images(2, size)
    features = branch_features(model, batch)
    # Untrained features are minute: bring them, and then the logit, to a size that counts.
    last = model.head.get_layer("logit")
    for layer in model.head.layers:
        if isinstance(layer, keras.layers.Dense):
            kernel, bias = layer.get_weights()
            layer.set_weights([100 * kernel, bias + 0.1])
    largest = float(np.abs(model.head_logit.predict_on_batch(features)).max())
    last.set_weights([weight / largest for weight in last.get_weights()])
    probability = model.full.predict_on_batch(batch)
    assert probability.shape == (2, 1)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(model.head.predict_on_batch(features), probability, rtol=1e-4)
    logit = model.head_logit.predict_on_batch(features)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), probability, rtol=1e-4)


@pytest.mark.parametrize(
    "name", [name for name, row in BACKBONES.items() if hasattr(keras.applications, row.application)]
)
def test_preprocessing_is_that_of_the_weights(name: str) -> None:
    row = BACKBONES[name]
    package = {
        "EfficientNetB0": "efficientnet", "MobileNetV2": "mobilenet_v2", "ResNet50V2": "resnet_v2",
        "ResNet152": "resnet", "DenseNet121": "densenet", "InceptionV3": "inception_v3",
    }.get(row.application, row.application.lower())  # fmt: skip
    module = importlib.import_module(f"keras.applications.{package}")
    batch = images(1, 8)
    ours = batch * np.array(row.scale) + np.array(row.offset)
    np.testing.assert_allclose(
        ours[..., ::-1] if row.bgr else ours, module.preprocess_input(batch.copy()), rtol=1e-4, atol=1e-4
    )


def test_permuted_kernel_equals_the_bgr_preprocessing(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    original = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    original.save_weights(tmp_path / "vgg16_notop.weights.h5")
    batch = images(2, 32)
    wanted = original.predict_on_batch(keras.applications.vgg16.preprocess_input(batch.copy()))
    model = build_model(("vgg16",), weights=str(tmp_path), input_size=(32, 32))
    (ours,) = branch_features(model, batch)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(ours, wanted.mean(axis=(1, 2)), rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_unit_preprocessing_divides_by_255(tiny_backbones: tuple[str, str]) -> None:
    model = build_model(tiny_backbones[:1], weights="none", input_size=(32, 32), preprocessing="unit")
    batch = images(2, 32)
    (ours,) = branch_features(model, batch)
    wanted = model.backbones["tiny_a"].predict_on_batch(batch / 255).mean(axis=(1, 2))
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)


def test_flatten_head_sees_the_positions(tiny_backbones: tuple[str, str]) -> None:
    model = build_model(
        tiny_backbones, weights="none", input_size=(32, 32), head=HeadSpec("flatten", units=(), dropout=0.0)
    )
    batch = images(2, 32)
    features = branch_features(model, batch)
    assert [x.shape for x in features] == [(2, 7, 7, 4), (2, 7, 7, 6)]
    np.testing.assert_allclose(
        model.head.predict_on_batch(features), model.full.predict_on_batch(batch), rtol=1e-5, atol=1e-6
    )


def test_flatten_head_needs_one_grid() -> None:
    with pytest.raises(UsageError, match=r"one grid.*\(1, 1\), \(3, 3\)"):
        build_model(("mobilenetv2", "inceptionv3"), weights="none", input_size=(96, 96), head=HeadSpec("flatten"))


def test_parse_backbones() -> None:
    assert parse_backbones(" vgg19, mobilenetv2 ") == ("vgg19", "mobilenetv2")


@pytest.mark.parametrize("text", ["", " , ", "vgg18", "vgg19,vgg19", "VGG19", "vgg19,unknown"])
def test_bad_backbones(text: str) -> None:
    with pytest.raises(UsageError, match="efficientnetb0"):
        parse_backbones(text)


def test_weights_are_read_and_digested(tiny_backbones: tuple[str, str], tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    first = build_model(tiny_backbones[:1], weights="none", input_size=(32, 32))
    first.backbones["tiny_a"].save_weights(tmp_path / "tiny_a_notop.weights.h5")
    again = build_model(tiny_backbones[:1], weights=str(tmp_path), input_size=(32, 32))
    other = build_model(tiny_backbones[:1], weights="none", input_size=(32, 32))
    digests = [weights_digest(model.backbones["tiny_a"]) for model in (first, again, other)]
    assert digests[0] == digests[1] != digests[2]


def test_missing_weights_file(tiny_backbones: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"No such weights file: .*tiny_a_notop\.weights\.h5"):
        build_model(tiny_backbones[:1], weights=str(tmp_path), input_size=(32, 32))


def test_weights_of_another_model(tiny_backbones: tuple[str, str], tmp_path: Path) -> None:
    other = build_model(tiny_backbones[1:], weights="none", input_size=(32, 32))
    other.backbones["tiny_b"].save_weights(tmp_path / "tiny_a_notop.weights.h5")
    with pytest.raises(ModelError, match="does not fit tiny_a"):
        build_model(tiny_backbones[:1], weights=str(tmp_path), input_size=(32, 32))


def test_weights_that_are_no_hdf5(tiny_backbones: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "tiny_a_notop.weights.h5").write_bytes(b"404: not found")
    with pytest.raises(ModelError, match="does not fit tiny_a"):
        build_model(tiny_backbones[:1], weights=str(tmp_path), input_size=(32, 32))


def test_imagenet_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backbones, "imagenet_reachable", lambda: False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(ModelError) as error:
        build_model(("mobilenetv2",), weights="imagenet", input_size=(64, 64))
    cache_file = BACKBONES["mobilenetv2"].cache_file
    for part in (cache_file, "--weights DIR", "--weights none", "mobilenetv2_notop.weights"):
        assert part in str(error.value)


def test_imagenet_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert not imagenet_at_hand(["vgg19"])
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / BACKBONES["vgg19"].cache_file).touch()
    assert imagenet_at_hand(["vgg19"])
    assert not imagenet_at_hand(["vgg19", "efficientnetb0"])


@pytest.mark.parametrize(
    ("answer", "reachable"),
    [
        (urllib.error.HTTPError("u", 403, "no", None, None), True),  # type: ignore[arg-type]
        (urllib.error.URLError("no name"), False),
        (TimeoutError(), False),
    ],
)
def test_imagenet_reachable(monkeypatch: pytest.MonkeyPatch, answer: Exception, reachable: bool) -> None:
    def urlopen(*args: Any, **kwargs: Any) -> Any:
        raise answer

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    assert imagenet_reachable() is reachable


def test_load_model_from_folder_and_file(tiny_backbones: tuple[str, str], tmp_path: Path) -> None:
    model = build_model(tiny_backbones, weights="none", input_size=(32, 32)).full
    model.save(tmp_path / "model.keras")
    batch = images(2, 32)
    for path in (tmp_path, tmp_path / "model.keras"):
        np.testing.assert_array_equal(load_model(path).predict_on_batch(batch), model.predict_on_batch(batch))


def test_load_model_refuses(tiny_backbones: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such model file"):
        load_model(tmp_path)
    path = tmp_path / "model.keras"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="cannot be read as a Keras model"):
        load_model(path)
    build_model(tiny_backbones, weights="none", input_size=(32, 32)).full.save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ModelError, match="cannot be read as a Keras model"):
        load_model(path)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "grid"), [(64, 2), (80, 3)])
def test_earlier_stages_are_pooled_on_the_last_maps_grid(size: int, grid: int) -> None:
    keras.utils.set_random_seed(0)
    model = build_model(("efficientnetb0",), weights="none", input_size=(size, size), maps="stages")
    assert model.full.get_layer("features").output.shape[1:] == (grid, grid, 1280 + 40 + 80 + 112 + 192)
    backbone = model.backbones["efficientnetb0"]
    names = ("top_activation", "block3b_add", "block4c_add", "block5c_add", "block6d_add")
    own = keras.Model(backbone.input, [backbone.get_layer(name).output for name in names])
    image = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    pooled = [np.asarray(x).mean(axis=(1, 2)) for x in own.predict_on_batch(image)]
    found = np.asarray(model.branches["efficientnetb0"].predict_on_batch(image))
    if size == 64:  # grids that divide: pooling twice is pooling once
        np.testing.assert_allclose(found, np.concatenate(pooled, axis=1), rtol=1e-3, atol=1e-5)
    else:
        np.testing.assert_allclose(found[:, :1280], pooled[0], rtol=1e-3, atol=1e-5)


def test_a_backbone_without_named_stages_stays_as_it_is() -> None:
    shapes = {
        maps: build_model(("mobilenetv2",), weights="none", input_size=(64, 64), maps=maps)
        .full.get_layer("features")
        .output.shape
        for maps in ("last", "stages")
    }
    assert shapes["last"] == shapes["stages"]
