"""GoogLeNet: the published shapes, Caffe's normalisation, weights by name, and files that are none."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.train.models import googlenet
from sonoedge.train.models.backbones import build_branch

SIZE = 64


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return googlenet.GoogLeNet(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), name="googlenet")


@pytest.fixture(scope="module")
def weights(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file like BVLC's: float16, kernels (out, height, width, in)."""
    folder, rng, arrays = tmp_path_factory.mktemp("weights"), np.random.default_rng(1), {}
    for layer in convolutions(network):
        kernel, bias = layer.get_weights()
        name = layer.name.replace("__", "/")
        scale = (2 / kernel[..., 0].size) ** 0.5
        arrays[f"{name}/w"] = (scale * rng.normal(size=kernel.shape)).transpose(3, 0, 1, 2).astype(np.float16)
        arrays[f"{name}/b"] = rng.normal(size=bias.shape).astype(np.float16)
    np.savez(folder / googlenet.WEIGHTS_FILE, **arrays)
    return folder


def convolutions(network: keras.Model) -> list[keras.layers.Conv2D]:
    return [layer for layer in network.layers if type(layer) is keras.layers.Conv2D and layer.trainable]


def test_the_published_shapes(network: keras.Model) -> None:
    """57 convolutions with 5.97 million weights: BVLC's 6.99 million less the classifier's 1.03."""
    assert len(convolutions(network)) == 57
    assert sum(layer.count_params() for layer in convolutions(network)) == 5_973_552
    assert network.get_layer("inception_3a").output.shape[-1] == 256
    assert network.get_layer("inception_4e").output.shape[1:] == (SIZE // 16, SIZE // 16, 832)
    assert network.output.shape[1:] == (SIZE // 32, SIZE // 32, 1024)


def test_local_response_normalisation_is_caffe_s(network: keras.Model) -> None:
    image = np.random.default_rng(0).uniform(-120, 120, (1, SIZE, SIZE, 3)).astype(np.float32)
    probe = keras.Model(network.input, [network.get_layer("pool1").output, network.get_layer("norm1").output])
    before, after = (np.asarray(value, np.float64) for value in probe(image))
    before *= 40  # so that normalisation changes something
    padded = np.pad(np.square(before), ((0, 0),) * 3 + ((2, 2),))
    total = sum(padded[..., i : i + before.shape[-1]] for i in range(5))
    layers = [network.get_layer(name) for name in ("norm1_squares", "norm1_sum")]
    summed = np.asarray(layers[1](layers[0]([before, before])))
    np.testing.assert_allclose(summed, 1 + 1e-4 / 5 * total, rtol=1e-4)
    root = 1 / np.sqrt(np.asarray(layers[1](layers[0]([before / 40, before / 40]))))
    np.testing.assert_allclose(after, before / 40 * root**1.5, rtol=1e-4, atol=1e-5)


def test_weights_go_where_their_names_say_and_channels_are_reversed(network: keras.Model, weights: Path) -> None:
    image = keras.Input((SIZE, SIZE, 3))
    model, maps = build_branch("googlenet", image, weights=str(weights))
    with np.load(weights / googlenet.WEIGHTS_FILE) as file:
        first, deep = file["conv1/7x7_s2/w"], file["inception_4c/3x3/w"]
    kernel = model.get_layer("conv1__7x7_s2").get_weights()[0]
    np.testing.assert_array_equal(kernel, first.transpose(1, 2, 3, 0)[:, :, ::-1].astype(np.float32))
    kernel = model.get_layer("inception_4c__3x3").get_weights()[0]
    np.testing.assert_array_equal(kernel, deep.transpose(1, 2, 3, 0).astype(np.float32))
    black = keras.Model(image, maps)(np.zeros((1, SIZE, SIZE, 3), np.float32))
    googlenet.set_weights(network, weights / googlenet.WEIGHTS_FILE)
    mean = np.broadcast_to(np.float32([-104, -117, -123]), (1, SIZE, SIZE, 3))
    np.testing.assert_allclose(np.asarray(black), np.asarray(network(mean)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such weights file"),
        (b"no archive", "does not fit GoogLeNet"),
        ({"x": 1}, "does not fit GoogLeNet"),
    ],
)
def test_files_that_are_none(network: keras.Model, tmp_path: Path, content: object, words: str) -> None:
    path = tmp_path / googlenet.WEIGHTS_FILE
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        np.savez(path, **content)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=words):
        googlenet.set_weights(network, path)


def test_keras_has_none_to_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("sonoedge.train.models.backbones.imagenet_reachable", lambda: True)
    with pytest.raises(ModelError, match=googlenet.WEIGHTS_FILE):
        build_branch("googlenet", keras.Input((SIZE, SIZE, 3)), weights="imagenet")
