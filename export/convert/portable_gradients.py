"""Gradients of TensorFlow operators in terms of operators that the small runtimes have.

TensorFlow's own gradients use training operators (``ReluGrad``, ``BroadcastGradientArgs``, ``ShapeN``, …) that
TensorFlow Lite builtins, OpenVINO and ONNX lack. Shapes are static here, batch axis included, so that the same
derivatives can be written with comparisons, products and sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from sonoedge.edge_runtime.errors import ModelError

_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772
_PREFIX = "SonoEdgePortable"
Gradient = Callable[[Any, Any], Any]


@contextmanager
def portable_gradients() -> Iterator[None]:
    """In this block, operators that are added to the traced graph get portable gradients (for `tf.gradients`).

    `tf.gradients` raises `ModelError` if an operator has no portable form with its settings.
    """
    names = {name: f"{_PREFIX}{name}" for name in _GRADIENTS}
    with tf.compat.v1.get_default_graph().gradient_override_map(names):
        yield


def _where(condition: Any) -> Any:
    return tf.cast(condition, tf.float32)


def _elementwise(derivative: Callable[[Any, Any, Any], Any]) -> Gradient:
    """Gradient of y = f(x), from its derivative as a function of x, y and the operator."""
    return lambda op, grad: grad * derivative(op.inputs[0], op.outputs[0], op)


def _leaky(x: Any, y: Any, op: Any) -> Any:
    return _where(x > 0.0) + op.get_attr("alpha") * _where(x <= 0.0)


def _selu(x: Any, y: Any, op: Any) -> Any:
    return _SELU_SCALE * _where(x >= 0.0) + (y + _SELU_SCALE * _SELU_ALPHA) * _where(x < 0.0)


def _sum_to(grad: Any, operand: Any) -> Any:
    """Undo broadcasting: sum a gradient over the axes along which an operand was repeated."""
    shape, wide = operand.shape.as_list(), grad.shape.as_list()
    padded = [1] * (len(wide) - len(shape)) + shape
    axes = [i for i, (a, b) in enumerate(zip(padded, wide, strict=True)) if a == 1 and b != 1]
    summed = tf.reduce_sum(grad, axis=axes, keepdims=True) if axes else grad
    return summed if summed.shape.as_list() == shape else tf.reshape(summed, shape)


def _binary(first: Callable[..., Any], second: Callable[..., Any]) -> Gradient:
    """Gradient of f(a, b) with broadcasting, from g(grad, a, b) for each operand."""

    def gradient(op: Any, grad: Any) -> list[Any]:
        a, b = op.inputs
        return [_sum_to(first(grad, a, b), a), _sum_to(second(grad, a, b), b)]

    return gradient


def _reduction(mean: bool) -> Gradient:
    def gradient(op: Any, grad: Any) -> list[Any]:
        shape = op.inputs[0].shape.as_list()
        axes = {int(axis) % len(shape) for axis in np.atleast_1d(tf.get_static_value(op.inputs[1]))}
        kept = [1 if i in axes else size for i, size in enumerate(shape)]
        count = math.prod(shape[i] for i in axes) if mean else 1
        return [tf.reshape(grad, kept) * tf.constant(1.0 / count, tf.float32, shape), None]

    return gradient


def _turned(kernel: Any) -> Any:
    """A kernel turned by 180 degrees; one axis at a time, as OpenVINO needs it."""
    return tf.reverse(tf.reverse(kernel, axis=[0]), axis=[1])


def _conv2d(op: Any, grad: Any) -> list[Any]:
    # Every runtime has plain convolutions. With stride 1, no dilation, an odd kernel and same padding, the gradient
    # is one: its kernel is turned by 180 degrees, with the channel axes exchanged.
    kernel = op.inputs[1]
    height, width = kernel.shape.as_list()[:2]
    plain = set(op.get_attr("strides")) == {1} and set(op.get_attr("dilations")) == {1}
    same = op.get_attr("padding") == b"SAME" and height % 2 == 1 and width % 2 == 1
    if plain and (same or height == width == 1):
        turned = tf.transpose(_turned(kernel), [0, 1, 3, 2])
        return [tf.nn.conv2d(grad, turned, strides=1, padding="SAME"), None]
    shape = tf.constant(op.inputs[0].shape.as_list(), tf.int32)
    padding = op.get_attr("padding").decode()
    attributes = {"strides": op.get_attr("strides"), "dilations": op.get_attr("dilations"), "padding": padding}
    return [tf.raw_ops.Conv2DBackpropInput(input_sizes=shape, filter=kernel, out_backprop=grad, **attributes), None]


def _depthwise(op: Any, grad: Any) -> list[Any]:
    kernel = op.inputs[1]
    height, width, _, multiplier = kernel.shape.as_list()
    plain = set(op.get_attr("strides")) == {1} and set(op.get_attr("dilations")) == {1} and multiplier == 1
    if not (plain and op.get_attr("padding") == b"SAME" and height % 2 == 1 and width % 2 == 1):
        raise ModelError(
            "The gradient of a depthwise convolution with strides, dilation or an even kernel cannot be exported."
        )
    return [tf.nn.depthwise_conv2d(grad, _turned(kernel), strides=[1, 1, 1, 1], padding="SAME"), None]


def _unpool(op: Any, pooled: Any) -> Any:
    """Pooled values repeated over their windows, zero where no window reaches: the input's shape."""
    window, strides = op.get_attr("ksize"), op.get_attr("strides")
    _, height, width, _ = op.inputs[0].shape.as_list()
    if window != strides or (op.get_attr("padding") != b"VALID" and (height % window[1] or width % window[2])):
        raise ModelError("The gradient of pooling with overlapping or padded windows cannot be exported.")
    tall, wide = (size * factor for size, factor in zip(pooled.shape.as_list()[1:3], window[1:3], strict=True))
    repeated = tf.raw_ops.ResizeNearestNeighbor(images=pooled, size=tf.constant([tall, wide]))
    return tf.pad(repeated, [[0, 0], [0, height - tall], [0, width - wide], [0, 0]])


def _max_pool(op: Any, grad: Any) -> Any:
    window = op.get_attr("ksize")[1:3]
    highest = _where(tf.equal(op.inputs[0], _unpool(op, op.outputs[0])))
    # Equal maxima share the gradient (TensorFlow gives it to the first); their sum and mean are the same.
    ties = tf.nn.avg_pool2d(highest, window, window, op.get_attr("padding").decode()) * float(math.prod(window))
    return highest * _unpool(op, grad / ties)


def _concat(op: Any, grad: Any) -> list[Any]:
    axis = int(tf.get_static_value(op.inputs[-1]))
    return [*tf.split(grad, [part.shape.as_list()[axis] for part in op.inputs[:-1]], axis=axis), None]


def _bias_add(op: Any, grad: Any) -> list[Any]:
    # Keras adds any two tensors of the same rank this way, so the second need not be a weight.
    return [grad, tf.reduce_sum(tf.reshape(grad, (-1, grad.shape[-1])), axis=0)]


_add = _binary(lambda g, a, b: g, lambda g, a, b: g)
_GRADIENTS: dict[str, Gradient] = {
    "Relu": _elementwise(lambda x, y, op: _where(x > 0.0)),
    "Relu6": _elementwise(lambda x, y, op: _where(x > 0.0) * _where(x < 6.0)),
    "LeakyRelu": _elementwise(_leaky),
    "Elu": _elementwise(lambda x, y, op: _where(x >= 0.0) + (y + 1.0) * _where(x < 0.0)),
    "Selu": _elementwise(_selu),
    "Sigmoid": _elementwise(lambda x, y, op: y * (1.0 - y)),
    "Tanh": _elementwise(lambda x, y, op: 1.0 - y * y),
    "Softplus": _elementwise(lambda x, y, op: tf.sigmoid(x)),
    "Softsign": _elementwise(lambda x, y, op: (1.0 - tf.abs(y)) * (1.0 - tf.abs(y))),
    "Exp": _elementwise(lambda x, y, op: y),
    "Log": _elementwise(lambda x, y, op: 1.0 / x),
    "Abs": _elementwise(lambda x, y, op: _where(x > 0.0) - _where(x < 0.0)),
    "Square": _elementwise(lambda x, y, op: 2.0 * x),
    "Sqrt": _elementwise(lambda x, y, op: 0.5 / y),
    "Rsqrt": _elementwise(lambda x, y, op: -0.5 * y * y * y),
    "Add": _add,
    "AddV2": _add,
    "Sub": _binary(lambda g, a, b: g, lambda g, a, b: -g),
    "Mul": _binary(lambda g, a, b: g * b, lambda g, a, b: g * a),
    "RealDiv": _binary(lambda g, a, b: g / b, lambda g, a, b: -g * a / (b * b)),
    "SquaredDifference": _binary(lambda g, a, b: 2.0 * g * (a - b), lambda g, a, b: 2.0 * g * (b - a)),
    "Maximum": _binary(lambda g, a, b: g * _where(a >= b), lambda g, a, b: g * _where(a < b)),
    "Minimum": _binary(lambda g, a, b: g * _where(a <= b), lambda g, a, b: g * _where(a > b)),
    "Mean": _reduction(mean=True),
    "Sum": _reduction(mean=False),
    "BiasAdd": _bias_add,
    "ConcatV2": _concat,
    "AvgPool": lambda op, grad: _unpool(op, grad) * (1.0 / math.prod(op.get_attr("ksize"))),
    "MaxPool": _max_pool,
    "Conv2D": _conv2d,
    "DepthwiseConv2dNative": _depthwise,
}
for _name, _gradient in _GRADIENTS.items():
    tf.RegisterGradient(f"{_PREFIX}{_name}")(_gradient)
