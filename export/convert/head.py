"""The head as a chain of small steps, and its graph: logit, Grad-CAM maps and shares, no automatic differentiation.

A head takes one feature map per branch, joins the maps (pooled or flattened), and runs dense layers down to one
logit. Its gradient is written out by the chain rule with ordinary operators. So the file that computes the logit on
the device also computes the explanation:

    x = joined features,  z_i = W_i a_(i-1) + b_i,  a_i = f_i(z_i),  logit = z_n
    d logit / d x = W_1^T (f_1'(z_1) * (... W_n^T))

With average pooling over Z positions, d logit / d A_k = (d logit / d x_k) / Z at every position (Selvaraju et al.
2017, eq. 1), and a branch's share of the logit is the sum of x_k d logit / d x_k over its channels. With a flatten
head the gradient differs by position: alpha is its mean, the share its product with the map, summed.

A head of any other form keeps its Keras layers, and TensorFlow's own gradient of them goes into the file
(`GraphHead`): the same outputs, as long as the runtime has the operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.bundle.contract import Branch
from sonoedge.edge_runtime.errors import ModelError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Dense:
    """z = x W + b with W (inputs, outputs) and b (outputs,), float32."""

    kernel: Array
    bias: Array


@dataclass(frozen=True)
class Scale:
    """z = x * factor + offset per channel, float32: batch normalisation and rescaling."""

    factor: Array
    offset: Array


@dataclass(frozen=True)
class Activation:
    """a = f(z), elementwise; one of `ACTIVATIONS`."""

    name: str


Step = Dense | Scale | Activation


@dataclass(frozen=True)
class Head:
    """Branch maps -> joined vector -> steps -> logit (1, 1) of the positive class."""

    branches: tuple[Branch, ...]
    join: Literal["gap", "flatten"]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class GraphHead:
    """Branch maps -> logit (1, 1) by Keras layers; ``tail`` takes a list of maps in the order of the branches."""

    branches: tuple[Branch, ...]
    tail: Any


ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh", "elu", "leaky_relu", "silu", "softplus")
"""Activations whose derivative is written out."""


def head_outputs(head: Head | GraphHead, maps: Mapping[str, Any]) -> dict[str, Any]:
    """The head's graph in TensorFlow operators.

    Args:
        head: what to compute.
        maps: per branch a tensor float32 (1, h, w, C); for a `GraphHead`, of a function that is being traced.

    Returns:
        Tensors by the names listed in `edge_runtime.explain.gradcam`.

    Raises:
        ModelError: the head does not end in a dense layer, or its gradient cannot be exported.
    """
    import tensorflow as tf

    if isinstance(head, Head):
        logit, gradients, inputs = _closed_form(tf, head, maps)
    else:
        logit, gradients, inputs = _by_graph(tf, head, maps)
    outputs = {"logit": logit, "probability": tf.sigmoid(logit)}
    cams, shares = [], []
    for branch, gradient, value in zip(head.branches, gradients, inputs, strict=True):
        positions = branch.height * branch.width
        flat_map = tf.reshape(maps[branch.name], (positions, branch.channels))
        # A row for each position, or one for all positions if the map is pooled.
        pooled = gradient.shape[0] == 1
        alpha = gradient / positions if pooled else tf.reduce_mean(gradient, axis=0, keepdims=True)
        share = tf.reshape(tf.reduce_sum(gradient * value), (1, 1))
        # (positions, C) x (C, 1): one small product instead of a broadcast over the map.
        cam = tf.reshape(
            tf.matmul(flat_map, tf.reshape(alpha, (branch.channels, 1))), (1, branch.height, branch.width)
        )
        outputs |= {f"alpha_{branch.name}": alpha, f"cam_{branch.name}": cam, f"share_{branch.name}": share}
        cams.append(cam)
        shares.append(share)
    outputs["cam"] = _fuse(tf, head.branches, cams)
    outputs["share_bias"] = logit - tf.add_n(shares) if len(shares) > 1 else logit - shares[0]
    return outputs


def _closed_form(tf: Any, head: Head, maps: Mapping[str, Any]) -> tuple[Any, list[Any], list[Any]]:
    """Logit, then per branch its gradient and the features it is taken by: (1, C) pooled, (positions, C) flat."""
    features = {branch.name: _join(tf, head, maps[branch.name]) for branch in head.branches}
    logit, gradient = _forward_backward(tf, head.steps, _interleave(tf, head, features))
    parts = [tf.reshape(part, (-1, part.shape[-1])) for part in _separate(tf, head, gradient)]
    return logit, parts, [tf.reshape(features[b.name], (-1, b.channels)) for b in head.branches]


def _by_graph(tf: Any, head: GraphHead, maps: Mapping[str, Any]) -> tuple[Any, list[Any], list[Any]]:
    """What `_closed_form` gives, by position, from TensorFlow's gradient of the Keras layers."""
    from sonoedge.export.convert.portable_gradients import portable_gradients

    tensors = [maps[branch.name] for branch in head.branches]
    with portable_gradients():
        logit = tf.reshape(head.tail(tensors, training=False), (1, 1))
    if any(operation.type in {"Erf", "Erfc"} for operation in logit.graph.get_operations()):
        # OpenVINO does not refuse the operator: it crashes.
        raise ModelError(
            "The head uses the exact GELU, whose error function the small runtimes lack. Use its tanh form: "
            "keras.activations.gelu(x, approximate=True)."
        )
    found = tf.gradients(logit, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def flat(values: Sequence[Any]) -> list[Any]:
        return [tf.reshape(v, (-1, b.channels)) for v, b in zip(values, head.branches, strict=True)]

    return logit, flat(found), flat(tensors)


def _join(tf: Any, head: Head, feature_map: Any) -> Any:
    if head.join == "gap":
        return tf.reduce_mean(feature_map, axis=(1, 2))
    return feature_map


def _interleave(tf: Any, head: Head, features: Mapping[str, Any]) -> Any:
    """The input of the first step: channels joined, then, for a flatten head, positions unrolled."""
    parts = [features[branch.name] for branch in head.branches]
    joined = parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)
    return joined if head.join == "gap" else tf.reshape(joined, (1, -1))


def _separate(tf: Any, head: Head, gradient: Any) -> list[Any]:
    """The inverse of `_interleave`, for the gradient."""
    channels = [branch.channels for branch in head.branches]
    if head.join == "flatten":
        grid = head.branches[0]
        gradient = tf.reshape(gradient, (1, grid.height, grid.width, sum(channels)))
    return [gradient] if len(channels) == 1 else tf.split(gradient, channels, axis=-1)


def _forward_backward(tf: Any, steps: Sequence[Step], value: Any) -> tuple[Any, Any]:
    inputs = []
    for step in steps:
        inputs.append(value)
        if isinstance(step, Dense):
            value = tf.matmul(value, tf.constant(step.kernel)) + tf.constant(step.bias)
        elif isinstance(step, Scale):
            value = value * tf.constant(step.factor) + tf.constant(step.offset)
        else:
            value = _activation(tf, step.name, value)
    gradient: Any = None
    for step, before in zip(reversed(steps), reversed(inputs), strict=True):
        if isinstance(step, Dense):
            transposed = tf.constant(np.ascontiguousarray(step.kernel.T))
            gradient = transposed if gradient is None else tf.matmul(gradient, transposed)
        elif gradient is None:
            raise ModelError("The head must end in a dense layer with one output, the logit.")
        elif isinstance(step, Scale):
            gradient = gradient * tf.constant(step.factor)
        else:
            gradient = gradient * _derivative(tf, step.name, before)
    return value, gradient


def _activation(tf: Any, name: str, z: Any) -> Any:
    if name == "linear":
        return z
    if name == "silu":
        return z * tf.sigmoid(z)
    if name == "leaky_relu":
        return tf.nn.leaky_relu(z, alpha=0.2)
    if name == "softplus":
        return tf.nn.relu(z) + tf.math.log(1.0 + tf.exp(-tf.abs(z)))
    return {"relu": tf.nn.relu, "sigmoid": tf.sigmoid, "tanh": tf.tanh, "elu": tf.nn.elu}[name](z)


def _derivative(tf: Any, name: str, z: Any) -> Any:
    """f'(z); at 0 the value that Keras' own gradient uses."""
    positive = tf.cast(z > 0.0, tf.float32)
    if name == "linear":
        return tf.ones_like(z)
    if name == "relu":
        return positive
    if name == "leaky_relu":
        return positive + 0.2 * (1.0 - positive)
    if name == "elu":
        return positive + (1.0 - positive) * tf.exp(-tf.nn.relu(-z))
    if name == "tanh":
        return 1.0 - tf.tanh(z) * tf.tanh(z)
    s = tf.sigmoid(z)
    if name == "sigmoid":
        return s * (1.0 - s)
    if name == "silu":
        return s * (1.0 + z * (1.0 - s))
    return s  # softplus


def _fuse(tf: Any, branches: Sequence[Branch], cams: Sequence[Any]) -> Any:
    """Sum of the branch maps on the largest grid."""
    height = max(branch.height for branch in branches)
    width = max(branch.width for branch in branches)
    resized = [
        cam
        if tuple(cam.shape[1:]) == (height, width)
        else tf.image.resize(cam[..., None], (height, width), method="bilinear")[..., 0]
        for cam in cams
    ]
    return tf.add_n(resized) if len(resized) > 1 else tf.identity(resized[0])
