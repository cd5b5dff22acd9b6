"""Post-training quantization of the backbone: TensorFlow Lite by recipe, OpenVINO through NNCF."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.backends import default_threads
from train.quiet import quiet

Rules = list[dict[str, Any]]
Ranges = dict[str, Any]
CALIBRATION_VERSION = "1"
"""Raise it when the way ranges are found changes: cached ones are then not used."""
_CHUNK = 16


def static_recipe(base: str = "w8a8") -> Rules:
    """Static quantization of every operator that can: int8 weights per channel, activations per tensor.

    ``w8a8`` has int8 activations, ``w8a16`` int16 ones (no fast kernels: an accuracy reference). Inputs and outputs
    stay float32: browsers' runtimes refuse integer ones, and nobody has to know scales.
    """
    from litert_quantizer import recipe

    everything = dict((recipe.static_wi8_ai8() if base == "w8a8" else recipe.static_wi8_ai16())[0])
    float_io = [
        {**everything, "operation": operation, "algorithm_key": recipe.AlgorithmName.NO_QUANTIZE}
        for operation in (recipe.TFLOperationName.INPUT, recipe.TFLOperationName.OUTPUT)
    ]
    return [everything, *float_io]


def calibrate_tflite(
    float_model: bytes, inputs: Iterable[NDArray[np.float32]], count: int, *, base: str = "w8a8", progress: bool
) -> Ranges:
    """Run a float TensorFlow Lite model over calibration inputs and record the range of every activation.

    Args:
        float_model: flatbuffer with one signature whose only input is ``image``.
        inputs: float32 (1, height, width, 3), 0–255.
        count: how many there are, for the progress bar.
    """
    quantizer = _quantizer(float_model, static_recipe(base))
    ranges: Ranges | None = None
    chunk: list[dict[str, NDArray[np.float32]]] = []
    with tqdm(total=count, desc="calibration", unit="img", disable=not progress) as bar:
        for model_input in inputs:
            chunk.append({"image": model_input})
            if len(chunk) == _CHUNK:
                ranges = _calibrate_chunk(quantizer, chunk, ranges)
                bar.update(len(chunk))
                chunk = []
        if chunk:
            ranges = _calibrate_chunk(quantizer, chunk, ranges)
            bar.update(len(chunk))
    assert ranges is not None
    _pin_input(float_model, ranges)
    return ranges


def quantize_tflite(float_model: bytes, ranges: Ranges, recipe: Rules) -> bytes:
    """Apply a recipe with recorded ranges; inputs and outputs stay float32."""
    with quiet():
        result = _quantizer(float_model, recipe).quantize(
            ranges, enable_progress_bar=False, enable_progress_report=False
        )
    return bytes(result.quantized_model)


def _pin_input(float_model: bytes, ranges: Ranges) -> None:
    """Give the image the range it has by definition: scale 1, zero point at 0, so that pixels are exact.

    The quantizer averages minima and maxima over the images, which would clip the darkest and brightest pixels.
    """
    from ai_edge_litert import schema_py_generated as schema

    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(float_model)))
    graph = parsed.subgraphs[0]
    name = graph.tensors[graph.inputs[0]].name
    found = ranges[name.decode() if isinstance(name, bytes) else name]
    found["min"] = np.zeros_like(found["min"])
    found["max"] = np.full_like(found["max"], 255.0)


def quantize_openvino(model: Any, inputs: Sequence[NDArray[np.float32]], *, ignored: Sequence[str] = ()) -> Any:
    """Static int8 of an `openvino.Model` with NNCF's defaults (per-channel weights, fast bias correction).

    ``ignored`` are names of operators that stay in float32.
    """
    with quiet():
        import nncf

        dataset = nncf.Dataset(list(inputs))
        return nncf.quantize(
            model,
            dataset,
            subset_size=len(inputs),
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=list(ignored), validate=False) if ignored else None,
        )


def _quantizer(float_model: bytes, recipe: Rules) -> Any:
    from litert_quantizer.quantizer import Quantizer

    return Quantizer(float_model, recipe)


def _calibrate_chunk(quantizer: Any, chunk: list[dict[str, NDArray[np.float32]]], ranges: Ranges | None) -> Ranges:
    with quiet():
        found = quantizer.calibrate(
            {"serving_default": chunk}, previous_calibration_result=ranges, num_threads=default_threads()
        )
    return dict(found)
