"""Where a model can be cut, what its branches and its logit are, and what is refused."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.export.convert.head import GraphHead, Head
from sonoedge.export.convert.splitting import split_model
from tests.helpers.models import default_head, small_model


def image(size: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (2, size, size, 3)).astype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("join", ["gap", "flatten"])
def test_backbone_and_tail_are_the_model(join: str) -> None:
    model = small_model(join=join)
    split = split_model(model)
    maps = split.backbone(image(), training=False)
    logit = np.asarray(split.tail([maps[b.name] for b in split.head.branches], training=False))
    np.testing.assert_allclose(sigmoid(logit), np.asarray(model(image(), training=False)), atol=1e-6)
    assert [b.name for b in split.head.branches] == ["branch_0", "branch_1"]
    assert split.input_size == (32, 32)
    assert isinstance(split.head, Head)
    assert split.head.join == join


def test_branches_of_different_grids_are_cut_before_pooling() -> None:
    split = split_model(small_model(grids=(2, 1)))
    assert [(b.height, b.width, b.channels) for b in split.head.branches] == [(8, 8, 5), (16, 16, 7)]
    assert isinstance(split.head, Head)


def test_a_saturated_sigmoid_still_has_a_logit() -> None:
    model = small_model(lambda x: layers.Dense(1, activation="sigmoid", name="out", bias_initializer="ones")(x))
    kernel, bias = model.get_layer("out").get_weights()
    model.get_layer("out").set_weights([kernel, bias + 200.0])
    split = split_model(model)
    maps = split.backbone(image(), training=False)
    logit = np.asarray(split.tail([maps[b.name] for b in split.head.branches]))
    assert np.isfinite(logit).all()
    assert (logit > 150).all()


@pytest.mark.parametrize("form", ["fused", "activation", "layer"])
def test_two_classes_under_a_softmax(form: str) -> None:
    def head(x: Any) -> Any:
        if form == "fused":
            return layers.Dense(2, activation="softmax")(x)
        scores = layers.Dense(2)(x)
        return layers.Activation("softmax")(scores) if form == "activation" else layers.Softmax()(scores)

    model = small_model(head)
    split = split_model(model)
    assert isinstance(split.head, Head)
    assert split.head.steps[-1].kernel.shape[1] == 1
    maps = split.backbone(image(), training=False)
    logit = np.asarray(split.tail([maps[b.name] for b in split.head.branches]))
    np.testing.assert_allclose(sigmoid(logit[:, 0]), np.asarray(model(image()))[:, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (lambda x: layers.Dense(1)(layers.ReLU(6.0)(layers.Dense(4)(x))), "ReLU"),
        (lambda x: layers.Dense(1)(layers.ReLU(negative_slope=0.1)(layers.Dense(4)(x))), "ReLU"),
        (lambda x: layers.Dense(1)(layers.Dense(4, activation="selu")(x)), "selu"),
        (lambda x: layers.Dense(1)(layers.Dense(4, activation=lambda z: z * z)(x)), "activation of its own"),
        (lambda x: layers.Dense(1)(layers.Add()([x, layers.Dense(12)(x)])), "2 inputs"),
    ],
)
def test_a_head_without_closed_form_says_why(head: Any, reason: str) -> None:
    split = split_model(small_model(head))
    assert isinstance(split.head, GraphHead)
    assert reason in split.not_closed


def test_an_activation_that_only_has_the_name_of_one_is_not_taken_for_it() -> None:
    def relu(z: Any) -> Any:
        return keras.ops.maximum(z, 0.5 * z)

    split = split_model(small_model(lambda x: layers.Dense(1)(layers.Dense(4, activation=relu)(x))))
    assert isinstance(split.head, GraphHead)


def test_unknown_split_layer_lists_those_there_are() -> None:
    with pytest.raises(ModelError, match="features"):
        split_model(small_model(), "top")


def test_a_split_that_is_bypassed() -> None:
    pixels = keras.Input((32, 32, 3))
    early = layers.Conv2D(4, 3, strides=4)(pixels)
    late = layers.Conv2D(4, 3, padding="same", name="features")(early)
    joined = layers.Concatenate()([layers.GlobalAveragePooling2D()(t) for t in (early, late)])
    with pytest.raises(ModelError, match="more than the output of the split layer"):
        split_model(keras.Model(pixels, layers.Dense(1)(joined)))


@pytest.mark.parametrize("head", [lambda x: layers.Dense(3, activation="softmax")(x), lambda x: layers.Dense(2)(x)])
def test_outputs_that_are_not_one_logit(head: Any) -> None:
    with pytest.raises(ModelError, match="one logit"):
        split_model(small_model(head))


def test_inputs_that_are_no_image() -> None:
    vector = keras.Input((8,))
    with pytest.raises(ModelError, match="height, width, 3"):
        split_model(keras.Model(vector, layers.Dense(1, name="features")(vector)))


def test_a_vector_is_no_feature_map() -> None:
    with pytest.raises(ModelError, match="Branch maps"):
        split_model(small_model(default_head), "fc1")


def test_another_layer_can_be_the_split() -> None:
    split = split_model(small_model(grids=(2,)), "branch_0")
    assert [b.name for b in split.head.branches] == ["branch_0"]
    assert isinstance(split.head, Head)
