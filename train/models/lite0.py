"""EfficientNet-Lite0: EfficientNetB0 without squeeze-excite, with ReLU6 for swish; made to be quantized well.

Stem and head keep their width, as published with the weights (github.com/tensorflow/tpu, efficientnet/lite).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.train.models.lite0_weights import Tensors, lite0_tensors

_STAGES = (
    # kernel, blocks, first stride, expansion, channels
    (3, 1, 1, 1, 16),
    (3, 2, 2, 6, 24),
    (5, 2, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (5, 3, 1, 6, 112),
    (5, 4, 2, 6, 192),
    (3, 1, 1, 6, 320),
)


def EfficientNetLite0(
    *, include_top: bool, weights: str | None, input_shape: tuple[int, int, int], name: str
) -> keras.Model:
    """The network without its classifier: float32 (N, H, W, 3), normalised by (x - 127) / 128 -> (N, h, w, 1280).

    Args:
        include_top: must be False.
        weights: ``imagenet`` (see `train.models.lite0_weights`) or None.
        input_shape: (H, W, 3).
        name: of the model.

    Raises:
        MissingExtraError, ModelError: the weights cannot be had.
        ValueError: ``include_top`` is true.
    """
    if include_top:
        raise ValueError("EfficientNetLite0 comes without its classifier only.")
    image = keras.Input(input_shape)
    x = _activated(layers.Conv2D(32, 3, 2, "same", use_bias=False, name="stem_conv")(image), "stem")
    number = 0
    for kernel, blocks, stride, expansion, channels in _STAGES:
        for block in range(blocks):
            x = _block(x, f"block{number}", kernel, stride if block == 0 else 1, expansion, channels)
            number += 1
    x = _activated(layers.Conv2D(1280, 1, use_bias=False, name="head_conv")(x), "head")
    model = keras.Model(image, x, name=name)
    if weights == "imagenet":
        _set_weights(model, lite0_tensors())
    return model


def _block(x: Any, name: str, kernel: int, stride: int, expansion: int, channels: int) -> Any:
    """Expand 1x1, depthwise, project 1x1; the input is added if the shapes are equal."""
    start, width = x, x.shape[-1]
    if expansion > 1:
        x = layers.Conv2D(width * expansion, 1, use_bias=False, name=f"{name}_expand_conv")(x)
        x = _activated(x, f"{name}_expand")
    x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}_depthwise_conv")(x)
    x = _activated(x, f"{name}_depthwise")
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_project_bn")(x)
    return layers.Add(name=f"{name}_add")([start, x]) if stride == 1 and width == channels else x


def _activated(x: Any, name: str) -> Any:
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu6")(x)


def _set_weights(model: keras.Model, tensors: Tensors) -> None:
    """Copy a checkpoint's tensors into the layers; `ModelError` if one is missing or has another shape."""
    for layer in model.layers:
        if not layer.weights:
            continue
        source = _source(layer.name)
        try:
            if isinstance(layer, layers.BatchNormalization):
                values = [tensors[f"{source}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
            else:
                # PyTorch: (out, in, height, width); depthwise (channels, 1, height, width), Keras wants them last.
                axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
                values = [np.transpose(tensors[f"{source}.weight"], axes)]
            layer.set_weights(values)
        except (KeyError, ValueError) as error:
            raise ModelError(f"The checkpoint of EfficientNet-Lite0 does not fit {layer.name}: {error}") from error


def _source(layer: str) -> str:
    """``block3_depthwise_bn`` -> ``_blocks.3._bn1``, the layer's name in the checkpoint."""
    fixed = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "head_conv": "_conv_head", "head_bn": "_bn1"}
    if layer in fixed:
        return fixed[layer]
    block, part, kind = layer.split("_")
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[part]
    return f"_blocks.{block.removeprefix('block')}.{norm if kind == 'bn' else f'_{part}_conv'}"
