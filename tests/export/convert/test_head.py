"""The head's written-out gradient against automatic differentiation, for every form of head, in every runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

from sonoedge.edge_runtime.backends import open_model
from sonoedge.edge_runtime.errors import ModelError
from sonoedge.export.convert.head import ACTIVATIONS, GraphHead, Head, head_outputs
from sonoedge.export.convert.splitting import SplitModel, split_model
from sonoedge.export.formats import Source
from sonoedge.train.simulation.phantoms import phantom
from tests.helpers.commands import Result
from tests.helpers.models import default_head, small_model

Build = Callable[[], keras.Model]
SUFFIXES = {"tflite": ".tflite", "openvino": ".xml", "onnx": ".onnx"}


def logit(x: Any) -> Any:
    return layers.Dense(1, activation="sigmoid", bias_initializer="random_normal")(x)


def on_map(head: Callable[[Any], Any], *, dropout: float = 0.0) -> keras.Model:
    """A classifier of one branch, whose head sees the map (N, 8, 8, 5) itself."""
    image = keras.Input((32, 32, 3))
    stem = layers.Conv2D(6, 3, strides=2, padding="same", activation="swish")(
        layers.Rescaling(1 / 127.5, -1)(image)
    )
    features = layers.Conv2D(5, 3, strides=2, padding="same", activation="relu", name="features")(stem)
    return keras.Model(image, head(features))


def attention(x: Any) -> Any:
    weights = layers.Dense(5, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    scaled = layers.Multiply()([x, layers.Reshape((1, 1, 5))(weights)])
    return logit(layers.GlobalAveragePooling2D()(scaled))


def residual(vector: Any) -> Any:
    hidden = layers.Dense(8, activation="tanh")(vector)
    return logit(layers.Add()([hidden, layers.Dense(8, activation="relu")(hidden)]))


def dense(*activations: str) -> Callable[[Any], Any]:
    def head(x: Any) -> Any:
        for activation in activations:
            x = layers.Dense(8, activation=activation)(x)
        return logit(x)

    return head


CLOSED: dict[str, Build] = {
    **{name: lambda name=name: small_model(dense(name)) for name in ACTIVATIONS},
    "deep": lambda: small_model(dense("relu", "tanh", "silu")),
    "flatten": lambda: small_model(dense("relu", "elu"), join="flatten"),
    "one branch": lambda: small_model(dense("relu"), grids=(2,)),
    "different grids": lambda: small_model(dense("relu"), grids=(2, 1, 4)),
    "batch normalisation": lambda: small_model(
        lambda x: logit(layers.ReLU()(layers.BatchNormalization()(layers.Dense(8, use_bias=False)(x))))
    ),
    "linear probe": lambda: small_model(logit),
    "two classes": lambda: small_model(lambda x: layers.Dense(2, activation="softmax")(layers.Dense(8, "relu")(x))),
    "logit output": lambda: small_model(lambda x: layers.Dense(1)(layers.Dense(8, "relu")(x))),
}
GRAPH: dict[str, Build] = {
    "relu6": lambda: small_model(lambda x: logit(layers.ReLU(6.0)(layers.Dense(8)(x)))),
    "leaky relu": lambda: small_model(lambda x: logit(layers.LeakyReLU(0.3)(layers.Dense(8)(x)))),
    "prelu": lambda: small_model(lambda x: logit(layers.PReLU("random_normal")(layers.Dense(8)(x)))),
    "selu": lambda: small_model(dense("selu")),
    "mish": lambda: small_model(dense("mish")),
    "softsign": lambda: small_model(dense("softsign")),
    "layer normalisation": lambda: small_model(lambda x: logit(layers.LayerNormalization()(layers.Dense(8)(x)))),
    "residual": lambda: small_model(residual),
    "channel attention": lambda: on_map(attention),
    "maximum": lambda: on_map(lambda x: logit(layers.GlobalMaxPooling2D()(x))),
    "mean and maximum": lambda: on_map(
        lambda x: logit(layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]))
    ),
    "convolution": lambda: on_map(
        lambda x: logit(layers.GlobalAveragePooling2D()(layers.Conv2D(7, 3, padding="same", activation="relu")(x)))
    ),
    "strided convolution": lambda: on_map(lambda x: logit(layers.Flatten()(layers.Conv2D(7, 3, strides=2)(x)))),
    "depthwise": lambda: on_map(
        lambda x: logit(
            layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3, padding="same", activation="relu")(x))
        )
    ),
    "pooling": lambda: on_map(
        lambda x: logit(layers.Flatten()(layers.MaxPooling2D(3)(layers.AveragePooling2D(2)(x))))
    ),
    "two classes": lambda: on_map(lambda x: layers.Dense(2, activation="softmax")(layers.GlobalMaxPooling2D()(x))),
}


def maps_of(model: SplitModel, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        b.name: rng.normal(0.3, 1.0, (1, b.height, b.width, b.channels)).astype(np.float32)
        for b in model.head.branches
    }


def by_tape(model: SplitModel, maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of the head from Keras' own layers and eager differentiation of them."""
    tensors = [tf.constant(maps[b.name]) for b in model.head.branches]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        score = model.tail(tensors, training=False)
    outputs = {"logit": score.numpy()}
    for branch, tensor, gradient in zip(model.head.branches, tensors, tape.gradient(score, tensors), strict=True):
        alpha = gradient.numpy().mean(axis=(1, 2))
        outputs[f"alpha_{branch.name}"] = alpha
        outputs[f"cam_{branch.name}"] = (tensor.numpy() * alpha[:, None, None, :]).sum(axis=-1)
        outputs[f"share_{branch.name}"] = np.sum(tensor.numpy() * gradient.numpy()).reshape(1, 1)
    return outputs


def traced(model: SplitModel, maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    function = tf.function(lambda values: head_outputs(model.head, values))
    return {name: value.numpy() for name, value in function({k: tf.constant(v) for k, v in maps.items()}).items()}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        np.testing.assert_allclose(
            found[name], value, rtol=1e-3, atol=1e-5 * max(1.0, np.abs(value).max()), err_msg=name
        )
    shares = sum(value for name, value in found.items() if name.startswith("share_"))
    np.testing.assert_allclose(shares, found["logit"], atol=1e-4)
    assert found["probability"] == pytest.approx(1 / (1 + np.exp(-found["logit"])), rel=1e-5)


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_is_the_gradient(name: str) -> None:
    keras.utils.set_random_seed(3)
    model = split_model(CLOSED[name]())
    assert isinstance(model.head, Head), model.not_closed
    maps = maps_of(model)
    assert_same(traced(model, maps), by_tape(model, maps))


@pytest.mark.parametrize("name", GRAPH)
def test_any_other_head_exports_its_gradient(name: str) -> None:
    keras.utils.set_random_seed(3)
    model = split_model(GRAPH[name]())
    assert isinstance(model.head, GraphHead)
    assert model.not_closed
    maps = maps_of(model)
    assert_same(traced(model, maps), by_tape(model, maps))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", SUFFIXES)
@pytest.mark.parametrize("name", ["residual", "mean and maximum"])
def test_every_runtime_runs_an_exported_gradient(name: str, runtime: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    model = split_model(GRAPH[name]())
    path = tmp_path / f"head{SUFFIXES[runtime]}"
    Source(model, None, tmp_path, tmp_path, progress=False).write_head(runtime, path)
    maps = maps_of(model)
    assert_same(open_model(path, runtime, threads=1).run(maps), by_tape(model, maps))


def test_a_single_branch_keeps_both_maps_in_openvino(tmp_path: Path) -> None:
    """Its fused map equals its branch map, and OpenVINO makes one tensor of them."""
    keras.utils.set_random_seed(3)
    model = split_model(CLOSED["one branch"]())
    Source(model, None, tmp_path, tmp_path, progress=False).write_head("openvino", tmp_path / "head.xml")
    maps = maps_of(model)
    found = open_model(tmp_path / "head.xml", "openvino", threads=1).run(maps)
    np.testing.assert_array_equal(found["cam"], found["cam_branch_0"])
    assert_same(found, by_tape(model, maps))


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPH)
def test_every_runtime_runs_every_exported_gradient(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    model = split_model(GRAPH[name]())
    source = Source(model, None, tmp_path, tmp_path, progress=False)
    maps = maps_of(model)
    for runtime, suffix in SUFFIXES.items():
        source.write_head(runtime, tmp_path / f"head{suffix}")
        assert_same(open_model(tmp_path / f"head{suffix}", runtime, threads=1).run(maps), by_tape(model, maps))


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    for head, message in (
        (lambda x: logit(layers.Flatten()(layers.MaxPooling2D(3, 2)(x))), "overlapping"),
        (lambda x: logit(layers.Dense(8, activation="gelu")(layers.GlobalAveragePooling2D()(x))), "exact GELU"),
        (lambda x: logit(layers.Flatten()(layers.DepthwiseConv2D(3, strides=2)(x))), "depthwise"),
    ):
        source = Source(split_model(on_map(head)), None, tmp_path, tmp_path, progress=False)
        with pytest.raises(ModelError, match=message):
            source.write_head("tflite", tmp_path / "head.tflite")


def test_with_a_pooled_head_hirescam_is_grad_cam() -> None:
    """The gradient is the same at every position, so that weighting by position and by mean agree."""
    keras.utils.set_random_seed(3)
    model = split_model(small_model(default_head))
    maps = maps_of(model)
    tensors = [tf.constant(maps[b.name]) for b in model.head.branches]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        score = model.tail(tensors, training=False)
    found = traced(model, maps)
    for branch, tensor, gradient in zip(model.head.branches, tensors, tape.gradient(score, tensors), strict=True):
        hires = tf.reduce_sum(gradient * tensor, axis=-1).numpy()
        np.testing.assert_allclose(found[f"cam_{branch.name}"], hires, atol=1e-6)


def test_the_fused_map_is_grad_cam_on_the_concatenation() -> None:
    keras.utils.set_random_seed(3)
    model = split_model(small_model(default_head))
    maps = maps_of(model)
    found = traced(model, maps)
    np.testing.assert_allclose(found["cam"], found["cam_branch_0"] + found["cam_branch_1"], rtol=1e-5)


def test_a_head_that_ignores_a_branch() -> None:
    def head(vector: Any) -> Any:
        return logit(layers.PReLU()(layers.Dense(4)(vector[:, :5])))

    model = split_model(small_model(head))
    found = traced(model, maps_of(model))
    assert found["cam_branch_0"].any()
    assert not found["cam_branch_1"].any()
    assert found["share_branch_1"] == 0


@pytest.mark.slow
def test_a_model_of_ones_own_from_file_to_heat_map(sonoedge: Callable[..., Result], tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    small_model(residual).save(tmp_path / "own.keras")
    arguments = ["--model", tmp_path / "own.keras", "--split-layer", "features", "--labels", "calm,alarm"]
    result = sonoedge("export", *arguments, "--format", "tflite-fp32", "--out", tmp_path / "bundle", "--quiet")
    assert result.code == 0, result.err
    assert "no closed form" in result.out
    assert "(Add) has 2 inputs" in result.out
    grey, _ = phantom(np.random.default_rng(0), "benign")
    Image.fromarray(grey).save(tmp_path / "x.png")
    arguments = [
        "--bundle",
        tmp_path / "bundle",
        "--class",
        "alarm",
        "--out",
        tmp_path / "heat",
        tmp_path / "x.png",
    ]
    result = sonoedge("explain", *arguments, "--json")
    assert result.code == 0, result.err
    body = json.loads(result.out)
    assert body["explained_label"] == "alarm"
    assert sum(body["logit_shares"].values()) == pytest.approx(body["logit"], abs=1e-4)
