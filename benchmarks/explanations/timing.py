"""The cost of an explanation on the device, and with the usual Keras recipes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonoedge.edge_runtime.backends import open_model
from sonoedge.edge_runtime.device.latency import Latency, measure
from sonoedge.edge_runtime.explain.gradcam import explanation
from sonoedge.edge_runtime.imaging.image import to_input
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.types import UInt8Image

if TYPE_CHECKING:
    from sonoedge.export.convert.splitting import SplitModel

EAGER, COMPILED, PLAIN_KERAS = "Keras, eager GradientTape", "Keras, compiled GradientTape", "Keras, prediction only"


@dataclass(frozen=True)
class ExplanationCost:
    """One artifact on one frame, milliseconds p50, all interleaved in one run.

    Attributes:
        plain_ms: resize, backbone, and a head that computes only logit and probability.
        explained_ms: resize, backbone, the explaining head, and reading the explanation from its outputs.
        head_ms: extra time of the explaining head and of reading the explanation, compared with the plain head.
            Heads are timed alone: a difference of two whole predictions is smaller than their noise.
        ratio: (plain_ms + head_ms) / plain_ms.
        eager_over_explained, compiled_over_explained: time of the Keras recipes over ``explained_ms``.
    """

    artifact: str
    plain_ms: float
    explained_ms: float
    head_ms: float
    ratio: float
    eager_over_explained: float | None
    compiled_over_explained: float | None


def explanation_costs(
    classifiers: Mapping[str, Classifier], model: SplitModel | None, frame: UInt8Image, *, runs: int
) -> tuple[list[ExplanationCost], dict[str, Latency]]:
    """Time every artifact and the Keras recipes on uint8 (height, width, 3), ``runs`` calls each.

    Returns:
        A row per artifact, and all latencies by name. Without a Keras model there is no plain head and no row.
    """
    calls: dict[str, Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        plain_heads = plain_head_files(model, {c.artifact.runtime for c in classifiers.values()}, Path(scratch))
        for name, classifier in classifiers.items():
            calls |= _artifact_calls(name, classifier, plain_heads, frame)
        if model is not None:
            from sonoedge.benchmarks.measure.gradient_truth import recipes

            model_input = to_input(frame, model.input_size)
            found = recipes(model)
            calls[EAGER] = lambda: found["eager"](model_input)
            calls[COMPILED] = lambda: found["compiled"](model_input)
            calls[PLAIN_KERAS] = lambda: model.full.predict_on_batch(model_input)
        latencies = measure(calls, runs=runs)
    rows = []
    for name in classifiers if model is not None else ():
        plain, explained = latencies[f"{name}: plain"].p50_ms, latencies[f"{name}: explained"].p50_ms
        extra = latencies[f"{name}: explaining head"].p50_ms - latencies[f"{name}: plain head"].p50_ms
        rows.append(
            ExplanationCost(
                name,
                plain,
                explained,
                round(extra, 4),
                round((plain + extra) / plain, 4),
                round(latencies[EAGER].p50_ms / explained, 2),
                round(latencies[COMPILED].p50_ms / explained, 2),
            )
        )
    return rows, latencies


def _artifact_calls(
    name: str, classifier: Classifier, plain_heads: Mapping[str, Path], frame: UInt8Image
) -> dict[str, Callable[[], Any]]:
    size, backbone, head = classifier.input_size, classifier.backbone, classifier.head
    maps = backbone.run({"image": to_input(frame, size)})
    # The time that a user waits, from the frame to the answer with its explanation.
    calls: dict[str, Callable[[], Any]] = {f"{name}: explained": lambda: _explain(classifier, frame)}
    if classifier.artifact.runtime in plain_heads:
        plain = open_model(plain_heads[classifier.artifact.runtime], classifier.artifact.runtime, threads=1)
        calls[f"{name}: plain"] = lambda: plain.run(backbone.run({"image": to_input(frame, size)}))
        calls[f"{name}: plain head"] = lambda: plain.run(maps)
        calls[f"{name}: explaining head"] = lambda: explanation(
            classifier.bundle, head.run(maps), classifier.bundle.positive_label
        )
    return calls


def _explain(classifier: Classifier, frame: UInt8Image) -> Any:
    prediction, outputs = classifier.explain_raw(frame)
    return explanation(classifier.bundle, outputs, prediction.label)


def plain_head_files(model: SplitModel | None, runtimes: set[str], folder: Path) -> dict[str, Path]:
    """For each runtime, a head file that computes no explanation, to time predictions without explanations."""
    if model is None:
        return {}
    from sonoedge.export.convert.conversion import (
        freeze,
        save_graph,
        save_openvino,
        to_onnx,
        to_openvino,
        to_tflite,
    )
    from sonoedge.export.convert.head import head_outputs

    shapes = {b.name: (1, b.height, b.width, b.channels) for b in model.head.branches}

    def plain(**maps: Any) -> dict[str, Any]:
        outputs = head_outputs(model.head, maps)
        return {name: outputs[name] for name in ("logit", "probability")}

    graph = freeze(plain, shapes)
    save_graph(graph, folder / "plain")
    files = {}
    for runtime in runtimes:
        suffix = {"tflite": ".tflite", "openvino": ".xml", "onnx": ".onnx"}[runtime]
        path = folder / f"plain_head{suffix}"
        if runtime == "tflite":
            path.write_bytes(to_tflite(folder / "plain"))
        elif runtime == "openvino":
            save_openvino(to_openvino(folder / "plain"), path)
        else:
            path.write_bytes(to_onnx(graph, shapes))
        files[runtime] = path
    return files
