"""Grad-CAM by automatic differentiation on the full Keras model: the truth, and the usual recipes for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sonoedge.edge_runtime.types import Float32Array
from sonoedge.export.convert.splitting import SplitModel


@dataclass(frozen=True)
class Gradients:
    """Logit, fused map (H, W) and branch maps (h, w) of one image, for the positive class, before the ReLU."""

    logit: float
    cam: Float32Array
    branch_cams: Mapping[str, Float32Array]


def features(model: SplitModel, image: Float32Array) -> dict[str, Float32Array]:
    """Branch maps (1, h, w, C) of a model input (1, H, W, 3), computed by Keras."""
    return {name: np.asarray(value) for name, value in model.backbone.predict_on_batch(image).items()}


def grad_cam(model: SplitModel, maps: Mapping[str, Float32Array]) -> Gradients:
    """Grad-CAM of the logit by GradientTape over the Keras layers of the head (Selvaraju et al. 2017)."""
    names = [branch.name for branch in model.head.branches]
    with tf.GradientTape() as tape:
        tensors = [tf.convert_to_tensor(maps[name]) for name in names]
        for tensor in tensors:
            tape.watch(tensor)
        logit = model.tail(tensors, training=False)
    gradients = tape.gradient(logit, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    cams = {
        name: np.einsum("hwc,c->hw", np.asarray(tensor[0]), np.asarray(gradient).mean(axis=(0, 1, 2)))
        for name, tensor, gradient in zip(names, tensors, gradients, strict=True)
    }
    height, width = (max(cam.shape[axis] for cam in cams.values()) for axis in (0, 1))
    fused = sum(tf.image.resize(cam[:, :, None], (height, width)).numpy()[:, :, 0] for cam in cams.values())
    return Gradients(float(tf.reshape(logit, ())), np.asarray(fused, np.float32), cams)


def randomised_tail(model: SplitModel, seed: int = 0) -> SplitModel:
    """The model with a head of random weights; each array keeps its standard deviation.

    The sanity check of Adebayo et al. (NeurIPS 2018): a map that stays the same does not explain the model.
    """
    from dataclasses import replace

    rng = np.random.default_rng(seed)
    tail = keras.models.clone_model(model.tail)
    weights = [rng.normal(0.0, max(float(np.std(w)), 1e-3), w.shape) for w in model.tail.get_weights()]
    tail.set_weights(weights)
    return replace(model, tail=tail)


def recipes(model: SplitModel) -> dict[str, Callable[[Float32Array], Any]]:
    """Two recipes for Grad-CAM with TensorFlow on the workstation, as functions of a model input (1, H, W, 3).

    ``eager``: the recipe of the tutorials, the whole model under a tape, operator by operator. ``compiled``: the
    same recipe as one ``tf.function``; its backward pass crosses only the head.
    """
    names = [branch.name for branch in model.head.branches]
    maps = [model.backbone.output[name] for name in names]
    both = keras.Model(model.full.inputs, [*maps, model.tail(maps)])

    def recipe(image: Any) -> Any:
        with tf.GradientTape() as tape:
            *tensors, logit = both(image, training=False)
        gradients = tape.gradient(logit, tensors)
        return [
            tf.nn.relu(tf.reduce_sum(tensor * tf.reduce_mean(gradient, (1, 2), keepdims=True), axis=-1))
            for tensor, gradient in zip(tensors, gradients, strict=True)
        ]

    compiled = tf.function(recipe)
    return {
        "eager": lambda image: [cam.numpy() for cam in recipe(tf.constant(image))],
        "compiled": lambda image: [cam.numpy() for cam in compiled(tf.constant(image))],
    }
