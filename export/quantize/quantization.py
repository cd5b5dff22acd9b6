"""Post-training quantization of the backbone: TensorFlow Lite by recipe, OpenVINO through NNCF."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.export.convert.graphs import openvino_tensor, pack_tflite, parse_tflite
from sonoedge.export.memory import released
from sonoedge.export.quantize.recipes import DYNAMIC, FLOAT16, WEIGHT_ONLY
from sonoedge.train.quiet import quiet

QUANTIZATION_VERSION = "5"
"""Raise it when a recipe gives other files than before: cached ones are then not used."""
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_FLOAT_ARITHMETIC = {
    FLOAT16: _WEIGHTED,
    WEIGHT_ONLY: _WEIGHTED,
    # XNNPACK has fast dynamic kernels for these, but not for depthwise convolutions.
    DYNAMIC: ("CONV_2D",),
}
"""Precisions that keep activations in float32, with the operators that they change; other operators stay float."""
_NAMES_PER_EXPRESSION = 40
_SMALLEST_STEP = 1e-12
_PASSING = frozenset({"MaxPool", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Pad", "StridedSlice"})
"""OpenVINO operators that compute on int8 or float, as their input is."""


def quantize_tflite(
    float_model: bytes,
    precisions: Mapping[str, str],
    base: str,
    ranges: Mapping[str, tuple[float, float]],
    *,
    integer_ends: bool = False,
) -> bytes:
    """Static quantization with int8 weights per channel and activations per tensor.

    Args:
        float_model: flatbuffer.
        precisions: by operator name, see `export.quantize.recipes`.
        base: the precision of most of them.
        ranges: lowest and highest value of every activation, by tensor name.
        integer_ends: inputs and outputs are integers; otherwise they are float32.

    Returns:
        The quantized flatbuffer.

    Raises:
        ModelError: an operator cannot be quantized that way.
    """
    with quiet():
        from litert_quantizer.quantizer import Quantizer

        rules = _litert_rules(precisions, base, integer_ends=integer_ends)
        try:
            result = Quantizer(float_model, rules).quantize(
                {name: _litert_range(*ends) for name, ends in ranges.items()},
                enable_progress_bar=False,
                enable_progress_report=False,
            )
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise ModelError(f"The backbone cannot be quantized to {base}: {error}") from error
    quantized = bytes(result.quantized_model)
    return _general_scales(quantized) if "w8a16" in precisions.values() else quantized


def _general_scales(model: bytes) -> bytes:
    """Mark the scales of 16-bit additions and subtractions as general; float graphs claim powers of two."""
    parsed = parse_tflite(model)
    for graph in parsed.subgraphs:
        for operator in graph.operators:
            if hasattr(operator.builtinOptions, "potScaleInt16"):
                operator.builtinOptions.potScaleInt16 = False
    return pack_tflite(parsed)


@released()
def quantize_openvino(model: Any, model_input: NDArray[np.float32], weight_steps: int | None = None) -> Any:
    """Static int8 of a whole `openvino.Model`: weights per channel, activations per tensor, with a zero point.

    NNCF decides where quantizers stand. The ranges of the activations are those of one image, until
    `set_ranges_openvino` replaces them. The result still holds its float32 weights behind FakeQuantize nodes, so
    that `spare_openvino` can take quantizers out again; `compress_openvino` stores the weights as int8.

    Args:
        model: float32.
        model_input: any image, float32 (1, height, width, 3), 0–255.
        weight_steps: steps from zero to the largest weight of a filter; None leaves them to NNCF.
    """
    with quiet():
        import nncf
        from nncf.quantization.advanced_parameters import QuantizationParameters

        quantized = nncf.quantize(
            model,
            nncf.Dataset([model_input]),
            subset_size=1,
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_quantization_params=QuantizationParameters(per_channel=False),
                disable_bias_correction=True,
                backend_params={"compress_weights": False},
            ),
        )
    if weight_steps is not None:
        _set_weight_steps(quantized, weight_steps)
    return quantized


def _set_weight_steps(model: Any, steps: int) -> None:
    """Set the ranges of all weights, in place, so that the largest of a filter is so many steps from zero."""
    import openvino

    for node in model.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize" or node.input_value(0).get_node().get_type_name() != "Constant":
            continue
        shape = tuple(node.get_input_shape(2))
        axes = tuple(i for i, size in enumerate(shape) if size == 1)
        largest = np.abs(node.input_value(0).get_node().get_data()).max(axis=axes, keepdims=True)
        high = np.maximum(largest, _SMALLEST_STEP) * ((node.get_attributes()["levels"] - 1) / 2 / steps)
        for first, value in ((1, -high), (2, high)):
            end = openvino.opset13.constant(value.astype(np.float32)).output(0)
            for number in (first, first + 2):
                node.input(number).replace_source_output(end)
    model.validate_nodes_and_infer_types()


def quantized_tensors(model: Any) -> tuple[str, ...]:
    """Names of the quantized activations of a model from `quantize_openvino`.

    They are the names that `export.convert.graphs.openvino_tensor` gives.
    """
    return tuple(dict.fromkeys(openvino_tensor(node.input_value(0)) for node in _activation_quantizers(model)))


def set_ranges_openvino(model: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Give the quantizers of a model from `quantize_openvino` other ranges, in place.

    Args:
        model: fully quantized, weights not compressed.
        ranges: lowest (at most 0) and highest value (at least 0) of each of `quantized_tensors`. Zero becomes one
            of the steps.
    """
    import openvino

    for node in _activation_quantizers(model):
        low, high = ranges[openvino_tensor(node.input_value(0))]
        steps = node.get_attributes()["levels"] - 1
        step = max((high - low) / steps, _SMALLEST_STEP)
        below = round(-low / step)
        for first, value in ((1, -below * step), (2, (steps - below) * step)):
            end = openvino.opset13.constant(np.float32(value)).output(0)
            for number in (first, first + 2):  # what goes in, and what comes out
                node.input(number).replace_source_output(end)
    model.validate_nodes_and_infer_types()


def spare_openvino(model: Any, names: Set[str]) -> None:
    """Let operators of a model from `quantize_openvino` compute in float32 again, in place.

    Their inputs bypass the quantizers. A quantizer in front of pooling or reshaping is removed if all operators
    that it feeds are spared. The ranges of the others stay the same.

    Args:
        model: fully quantized, weights not compressed.
        names: of the operators to spare.
    """
    for node in model.get_ordered_ops():
        if node.get_friendly_name() in names:
            for port in node.inputs():
                source = port.get_source_output().get_node()
                if source.get_type_name() == "FakeQuantize":
                    port.replace_source_output(source.input_value(0))
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            readers = _readers(node)
            if readers and readers <= names:
                for port in node.output(0).get_target_inputs():
                    port.replace_source_output(node.input_value(0))
    model.validate_nodes_and_infer_types()


def compress_openvino(model: Any) -> None:
    """Store the quantized weights of a model from `quantize_openvino` as int8, in place."""
    from openvino._offline_transformations import compress_quantize_weights_transformation

    compress_quantize_weights_transformation(model)


def _activation_quantizers(model: Any) -> list[Any]:
    """FakeQuantize nodes behind operators or the image; those of weights stand behind constants."""
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
    return [node for node in nodes if node.input_value(0).get_node().get_type_name() != "Constant"]


def _readers(node: Any) -> set[str]:
    """Names of the computing operators that read a node's result, directly or through pooling or reshaping."""
    found: set[str] = set()
    stack = [port.get_node() for port in node.output(0).get_target_inputs()]
    while stack:
        reader = stack.pop()
        if reader.get_type_name() in _PASSING:
            stack += [port.get_node() for output in reader.outputs() for port in output.get_target_inputs()]
        else:
            found.add(reader.get_friendly_name())
    return found


def _litert_range(low: float, high: float) -> dict[str, NDArray[np.float32]]:
    return {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}


def _litert_rules(precisions: Mapping[str, str], base: str, *, integer_ends: bool) -> list[dict[str, Any]]:
    from litert_quantizer import recipe

    static = {"w8a8": recipe.static_wi8_ai8, "w8a16": recipe.static_wi8_ai16}
    everything = dict(static[base]()[0])
    unquantized = {**everything, "algorithm_key": recipe.AlgorithmName.NO_QUANTIZE}
    rules = [everything]
    # Runtimes in browsers refuse integer inputs and outputs, and nobody should have to know scales.
    ends = () if integer_ends else (recipe.TFLOperationName.INPUT, recipe.TFLOperationName.OUTPUT)
    rules += [{**unquantized, "operation": op} for op in ends]
    by_precision: defaultdict[str, list[str]] = defaultdict(list)
    for name, precision in precisions.items():
        if precision != base:
            by_precision[precision].append(name)
    for precision, names in sorted(by_precision.items()):
        expressions = _alternations(sorted(names))
        rule = dict(static[precision]()[0]) if precision in static else unquantized
        rules += [{**rule, "regex": regex} for regex in expressions]
        for operation in _FLOAT_ARITHMETIC.get(precision, ()):
            rule = {**_weights_rule(precision), "operation": recipe.TFLOperationName(operation)}
            rules += [{**rule, "regex": regex} for regex in expressions]
    return rules


def _weights_rule(precision: str) -> dict[str, Any]:
    from litert_quantizer import recipe

    if precision == DYNAMIC:
        return dict(recipe.dynamic_wi8_afp32()[0])
    rule = dict(recipe.weight_only_wi8_afp32()[0])
    if precision == FLOAT16:
        half = {"num_bits": 16, "dtype": "FLOAT", "granularity": "TENSORWISE", "symmetric": True}
        rule["algorithm_key"] = recipe.AlgorithmName.FLOAT_CASTING
        rule["op_config"] = {**rule["op_config"], "weight_tensor_config": half}
    return rule


def _alternations(names: Sequence[str]) -> list[str]:
    """Regular expressions that together match exactly these names; several, since very long ones are slow."""
    groups = [names[i : i + _NAMES_PER_EXPRESSION] for i in range(0, len(names), _NAMES_PER_EXPRESSION)]
    return [f"^(?:{'|'.join(re.escape(name) for name in group)})$" for group in groups]
