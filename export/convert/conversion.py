"""One frozen TensorFlow graph per part, converted to every runtime's file.

The graph holds its weights as constants and has named inputs and outputs. TensorFlow Lite, OpenVINO and ONNX all
read it, so that names and arithmetic are the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.lite.python.convert import ConverterError
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.export.memory import released
from sonoedge.train.quiet import quiet

Shapes = Mapping[str, tuple[int, ...]]
"""Static shapes by name, batch axis included."""
ONNX_OPSET = 17
"""Version of the ONNX operators."""


def freeze(function: Callable[..., Mapping[str, Any]], inputs: Shapes) -> Any:
    """Trace a function of float32 tensors and make its variables constants.

    Args:
        function: takes the inputs by name, returns tensors by name.
        inputs: static shapes by name, batch axis included.

    Returns:
        A `tf.function` with that signature.
    """
    signature = {name: tf.TensorSpec(shape, tf.float32, name=name) for name, shape in inputs.items()}
    traced = tf.function(lambda **tensors: function(**tensors), autograph=False).get_concrete_function(**signature)
    # TensorFlow sorts a dictionary of outputs by name, and of inputs too.
    output_names = sorted(traced.structured_outputs)
    # The arguments come first, captured variables and constants after them.
    input_names = [tensor.name.partition(":")[0] for tensor in traced.inputs[: len(inputs)]]
    frozen = convert_variables_to_constants_v2(traced)

    def call(*tensors: Any) -> dict[str, Any]:
        by_name = dict(zip(inputs, tensors, strict=True))
        results = frozen(*[by_name[name] for name in input_names])
        results = results if isinstance(results, list | tuple) else [results]
        return {name: tf.identity(value, name=name) for name, value in zip(output_names, results, strict=True)}

    return tf.function(call, input_signature=[signature[name] for name in inputs], autograph=False)


@released()
def save_graph(function: Any, folder: Path) -> None:
    """Write a frozen function as a SavedModel."""
    module = tf.Module()
    module.call = function
    # Swish has a custom gradient, which a frozen graph cannot carry and inference does not need.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with quiet():
        tf.saved_model.save(module, str(folder), signatures={"serving_default": function}, options=options)


@released()
def to_tflite(saved_model: Path, *, float16: bool = False, dynamic: bool = False) -> bytes:
    """TensorFlow Lite flatbuffer with builtin operators only.

    Args:
        saved_model: folder.
        float16: store weights as float16; they become float32 when the file is opened.
        dynamic: store weights as int8; activations are quantized at run time.

    Raises:
        ModelError: the graph needs an operator that the light interpreters do not have.
    """
    with quiet():
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if float16 or dynamic:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if float16:
        converter.target_spec.supported_types = [tf.float16]
    try:
        with quiet():
            return bytes(converter.convert())
    except (tf.errors.OpError, RuntimeError, ConverterError) as error:
        raise _inexpressible("TensorFlow Lite", error) from error


@released()
def to_openvino(saved_model: Path) -> Any:
    """Convert a SavedModel to an `openvino.Model` in float32.

    Raises:
        ModelError: the graph needs an operator that OpenVINO does not have.
    """
    import openvino
    from openvino import frontend

    try:
        with quiet():
            model = openvino.convert_model(str(saved_model))
        # The converter notes the folder that it read: the device does not need it, and it differs in every export.
        model.set_rt_info(saved_model.name, ["conversion_parameters", "input_model"])
        return model
    except (RuntimeError, frontend.OpConversionFailure, frontend.OpValidationFailure) as error:
        raise _inexpressible("OpenVINO", error) from error


def save_openvino(model: Any, path: Path, *, float16: bool = False) -> None:
    """Write ``path`` (.xml) and the .bin beside it; weights stay float32 unless ``float16`` is asked for."""
    import openvino

    openvino.save_model(model, str(path), compress_to_fp16=float16)


@released()
def to_onnx(function: Any, inputs: Shapes) -> bytes:
    """Bytes of an ONNX file, opset `ONNX_OPSET`, channels last as in the graph, checked by the ONNX checker.

    Args:
        function: from `freeze`.
        inputs: its shapes.

    Raises:
        ModelError: the graph needs an operator that ONNX does not have.
    """
    import onnx
    import tf2onnx

    signature = [tf.TensorSpec(shape, tf.float32, name=name) for name, shape in inputs.items()]
    with quiet():
        proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=ONNX_OPSET)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise _inexpressible("ONNX", error) from error
    return bytes(proto.SerializeToString())


def _inexpressible(runtime: str, error: Exception) -> ModelError:
    """One sentence instead of a converter's pages: the operators that it lacks, if it names them."""
    text = str(error)
    found = re.findall(r"operations: ([\w, ]+?)(?:\s+To |\n|$)|No Op registered for (\w+)|\btf\.([A-Z]\w+)\(", text)
    names = sorted({name.strip() for match in found for part in match for name in part.split(",") if name.strip()})
    reason = f"it has no {', '.join(names)}." if names else (text.strip().splitlines() or ["no reason given."])[0]
    return ModelError(f"{runtime} cannot express the model: {reason}")
