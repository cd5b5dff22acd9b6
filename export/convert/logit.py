"""Find the logit behind a model's output, and the part of a Keras model behind its feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from sonoedge.edge_runtime.errors import ModelError


def producer(tensor: Any) -> tuple[keras.layers.Layer, list[Any]]:
    """The layer that a symbolic tensor comes from, and the tensors that the layer was called on."""
    history = tensor._keras_history
    return history.operation, list(history.operation._inbound_nodes[history.node_index].input_tensors)


def activation_name(layer: Any) -> str:
    """Name of a layer's activation if it is Keras' own function of that name, else ``""``."""
    function = getattr(layer, "activation", None)
    name = {"swish": "silu"}.get(getattr(function, "__name__", ""), getattr(function, "__name__", ""))
    return name if function is not None and function is getattr(keras.activations, name, None) else ""


def logit_tensor(output: Any) -> Any:
    """The symbolic logit (N, 1) of the positive class, the last one, from a classifier's symbolic output.

    A sigmoid or a softmax over two classes at the end is removed, not inverted: a probability that rounds to 1 has
    no logit.

    Raises:
        ModelError: the output is neither one logit or probability, nor a softmax over two classes.
    """
    scores, last = output, ""
    layer, inputs = producer(output)
    if isinstance(layer, keras.layers.Softmax):
        scores, last = inputs[0], "softmax"
    elif isinstance(layer, keras.layers.Activation):
        last = activation_name(layer)
        scores = inputs[0] if last in {"sigmoid", "softmax"} else output
    elif isinstance(layer, keras.layers.Dense) and activation_name(layer) in {"sigmoid", "softmax"}:
        last = activation_name(layer)
        linear = keras.layers.Dense(layer.units, use_bias=layer.use_bias, name=f"{layer.name}_linear")
        scores = linear(inputs[0])
        linear.set_weights(layer.get_weights())
    width = scores.shape[-1] if len(scores.shape) == 2 else None
    if width == 2 and last == "softmax":
        # softmax over two scores is a sigmoid of their difference.
        negative, positive = keras.ops.split(scores, 2, axis=-1)
        return positive - negative
    if width != 1 or last == "softmax":
        raise ModelError(
            "The head must end in one logit, or in a softmax over two classes. "
            f"Received: output of shape {tuple(output.shape)} from {layer.name} ({type(layer).__name__})."
        )
    return scores


def tail_model(full: keras.Model, maps: Sequence[Any]) -> keras.Model:
    """The part of ``full`` from the branch maps to the logit (N, 1); both models share their layers.

    Args:
        full: the whole model.
        maps: symbolic tensors of it.

    Raises:
        ModelError: the logit depends on more than these maps.
    """
    try:
        return keras.Model(list(maps), logit_tensor(full.outputs[0]), name="tail")
    except ValueError as error:
        raise ModelError(
            "The logit depends on more than the output of the split layer: split the model later, at a layer that "
            "everything passes through."
        ) from error
