"""Post-training quantization of the backbone: TensorFlow Lite by recipe, OpenVINO through NNCF."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ModelError
from export.graphs import pack_tflite, parse_tflite
from export.memory import released
from export.recipes import DYNAMIC, FLOAT
from train.quiet import quiet

QUANTIZATION_VERSION = "2"
"""Raise it when a recipe would give other files: cached ones are then not used."""
DYNAMIC_OPERATIONS = ("CONV_2D",)
"""What ``dynamic`` changes: XNNPACK has fast kernels of that kind for these, not for depthwise convolutions."""
_NAMES_PER_EXPRESSION = 40


def quantize_tflite(
    float_model: bytes, precisions: Mapping[str, str], base: str, ranges: Mapping[str, Any] | None
) -> bytes:
    """Static quantization with int8 weights per channel and activations per tensor; inputs and outputs float32.

    Args:
        float_model: flatbuffer.
        precisions: ``float``, ``dynamic`` (float activations, int8 convolutions), ``w8a8`` (int8 activations) or
            ``w8a16`` (int16 ones) by operator name.
        base: the precision of most of them.
        ranges: of the activations, see `export.ranges.quantizer_ranges`.

    Raises:
        ModelError: an operator cannot be quantized that way.
    """
    with quiet():
        from litert_quantizer.quantizer import Quantizer

        rules = _litert_rules(precisions, base)
        try:
            result = Quantizer(float_model, rules).quantize(
                ranges, enable_progress_bar=False, enable_progress_report=False
            )
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise ModelError(f"The backbone cannot be quantized to {base}: {error}") from error
    quantized = bytes(result.quantized_model)
    return _general_scales(quantized) if "w8a16" in precisions.values() else quantized


def _general_scales(model: bytes) -> bytes:
    """Tell 16-bit additions and subtractions that their scales are no powers of two, as float graphs claim."""
    parsed = parse_tflite(model)
    for graph in parsed.subgraphs:
        for operator in graph.operators:
            if hasattr(operator.builtinOptions, "potScaleInt16"):
                operator.builtinOptions.potScaleInt16 = False
    return pack_tflite(parsed)


@released()
def quantize_openvino(
    model: Any,
    inputs: Sequence[NDArray[np.float32]],
    *,
    ignored: Sequence[str] = (),
    asymmetric: bool = False,
    bias_correction: bool = True,
) -> Any:
    """Static int8 of an `openvino.Model` with NNCF: per-channel weights, fast bias correction.

    Args:
        model: float32.
        inputs: calibration inputs.
        ignored: names of operators that stay in float32.
        asymmetric: activations with a zero point, which swish and other non-ReLU activations use better.
        bias_correction: off for a quick look.
    """
    with quiet():
        import nncf

        presets = nncf.QuantizationPreset
        return nncf.quantize(
            model,
            nncf.Dataset(list(inputs)),
            subset_size=len(inputs),
            preset=presets.MIXED if asymmetric else presets.PERFORMANCE,
            target_device=nncf.TargetDevice.CPU,
            fast_bias_correction=True,
            advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=not bias_correction),
            ignored_scope=nncf.IgnoredScope(names=list(ignored), validate=False) if ignored else None,
        )


def _litert_rules(precisions: Mapping[str, str], base: str) -> list[dict[str, Any]]:
    from litert_quantizer import recipe

    static = {"w8a8": recipe.static_wi8_ai8, "w8a16": recipe.static_wi8_ai16}
    everything = dict(static[base]()[0])
    unquantized = {**everything, "algorithm_key": recipe.AlgorithmName.NO_QUANTIZE}
    rules = [everything]
    # Browsers' runtimes refuse integer inputs and outputs, and nobody should have to know scales.
    rules += [
        {**unquantized, "operation": op} for op in (recipe.TFLOperationName.INPUT, recipe.TFLOperationName.OUTPUT)
    ]
    by_precision: defaultdict[str, list[str]] = defaultdict(list)
    for name, precision in precisions.items():
        if precision != base:
            by_precision[precision].append(name)
    for precision, names in sorted(by_precision.items()):
        rule = unquantized if precision in {FLOAT, DYNAMIC} else dict(static[precision]()[0])
        rules += [{**rule, "regex": regex} for regex in _alternations(sorted(names))]
        if precision == DYNAMIC:
            for operation in DYNAMIC_OPERATIONS:
                rule = {**recipe.dynamic_wi8_afp32()[0], "operation": recipe.TFLOperationName(operation)}
                rules += [{**rule, "regex": regex} for regex in _alternations(sorted(names))]
    return rules


def _alternations(names: Sequence[str]) -> list[str]:
    """Expressions that match exactly these names; several, since very long ones are slow."""
    groups = [names[i : i + _NAMES_PER_EXPRESSION] for i in range(0, len(names), _NAMES_PER_EXPRESSION)]
    return [f"^(?:{'|'.join(re.escape(name) for name in group)})$" for group in groups]
