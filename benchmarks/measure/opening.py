"""Opens candidates of a benchmark: a file of a bundle, the bare interpreter, the full model, a cascade."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from sonoedge.edge_runtime.backends import open_model
from sonoedge.edge_runtime.bundle.contract import MANIFEST, Bundle
from sonoedge.edge_runtime.bundle.manifest import parse_manifest
from sonoedge.edge_runtime.bundle.trust import without_policy
from sonoedge.edge_runtime.errors import ModelError, UsageError
from sonoedge.edge_runtime.explain.gradcam import explanation, heat_map, overlay
from sonoedge.edge_runtime.imaging.image import read_image, to_input
from sonoedge.edge_runtime.imaging.pictures import open_picture
from sonoedge.edge_runtime.model.cascade import Cascade
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.types import Float32Array

WARM_UP = 1
"""Frames after the first one, before the memory is read; each round of timing begins with one more."""


@dataclass(frozen=True)
class Spec:
    """How to open a candidate.

    Attributes:
        kind: ``artifact``, ``cascade``, ``bare``, ``full`` (Keras), ``file`` (a whole model in one TensorFlow Lite
            file with a probability output) or ``backbone`` (another backbone with the artifact's head).
        path: the run folder (``full``) or the file (``file``, ``backbone``), else empty.
        artifact: name in the bundle; empty for ``full`` and ``file``.
        bundle: the bundle folder, which gives input size and labels.
        runtime: interpreter.
        threads: for the interpreter.
    """

    kind: str
    path: str
    artifact: str
    bundle: str
    runtime: str
    threads: int


@dataclass
class Opened:
    """An open candidate.

    Attributes:
        frame: computes one frame after the resize.
        score: the answer for an image file, and whether the heat map is drawn, too, for its time; None if the
            candidate only has a latency.
        executed: what the interpreter says it runs.
        both: for a cascade, computes a frame for which it also asks its full model.
    """

    frame: Callable[[], Any]
    score: Callable[[str, bool], dict[str, Any]] | None
    executed: dict[str, Any]
    both: Callable[[], Any] | None = None


def open_candidate(spec: Spec) -> Opened:
    """Open the candidate that ``spec`` describes.

    Raises:
        UsageError: an unknown kind.
    """
    bundle = _bundle(spec)
    size = (bundle.input.height, bundle.input.width)
    noise = _noise(size)
    if spec.kind == "bare":
        return _bare(spec, bundle, noise)
    if spec.kind == "full":
        return _full(spec, size, noise)
    if spec.kind == "file":
        return _file(spec, size, noise)
    if spec.kind == "cascade":
        return _cascade(Cascade(bundle, threads=spec.threads))
    if spec.kind == "artifact":
        return _classifier(Classifier(bundle, spec.artifact, threads=spec.threads), noise)
    if spec.kind == "backbone":
        # The same head, another backbone: the artifact's entry with the file replaced.
        artifact = replace(bundle.artifact(spec.artifact), backbone=spec.path)
        return _classifier(Classifier(replace(bundle, artifacts=(artifact,)), None, threads=spec.threads), noise)
    raise UsageError(f"Unknown kind of candidate: {spec.kind}.")


def _bundle(spec: Spec) -> Bundle:
    # The parent has checked digests and policy; hashing every file again would take most of the start-up.
    folder = Path(spec.bundle)
    return without_policy(parse_manifest(json.loads((folder / MANIFEST).read_text(encoding="utf-8")), folder))


def _noise(size: tuple[int, int]) -> Float32Array:
    return np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(np.float32)


def _classifier(classifier: Classifier, noise: Float32Array) -> Opened:
    return Opened(_frame(classifier, noise), _scorer(classifier), _executed(classifier))


def _cascade(cascade: Cascade) -> Opened:
    sure, asked = (_frame(one, _noise(one.input_size)) for one in (cascade.first, cascade.full))
    executed = {
        "interpreter": cascade.full.backbone.device["interpreter"],
        "threads": cascade.full.backbone.device["threads"],
    }
    return Opened(sure, _scorer(cascade), executed, both=lambda: (sure(), asked()))


def _frame(classifier: Classifier, model_input: Float32Array) -> Callable[[], Any]:
    return lambda: classifier.head.run(classifier.backbone.run({"image": model_input}))


def _executed(classifier: Classifier) -> dict[str, Any]:
    return {**classifier.backbone.device, **_delegation(classifier.backbone)}


def _scorer(classifier: Classifier | Cascade) -> Callable[[str, bool], dict[str, Any]]:
    def score(path: str, timed: bool) -> dict[str, Any]:
        picture = open_picture(path)
        image = picture.image
        prediction, outputs = classifier.explain_raw(image, decode_ms=picture.decode_ms)
        answer: dict[str, Any] = {"logit": prediction.logit, "stages_ms": dict(prediction.latency_ms)}
        deciding_model = classifier.deciding_model(prediction)
        if isinstance(classifier, Cascade):
            answer["escalated"] = deciding_model is classifier.full
        if "cam" in outputs:
            if timed:
                start = perf_counter()
                result = explanation(deciding_model.bundle, outputs, prediction.label)
                overlay(image, heat_map(result.cam, image.shape[:2]))
                answer["stages_ms"]["explain"] = 1e3 * (perf_counter() - start)
            answer["cam"] = outputs["cam"][0].astype(float).tolist()
        return answer

    return score


def _bare(spec: Spec, bundle: Bundle, noise: Float32Array) -> Opened:
    """The interpreter's own call on the artifact's backbone, as one would write it without SonoEdge."""
    path = str(bundle.path / bundle.artifact(spec.artifact).backbone)
    if spec.runtime == "tflite":
        from sonoedge.edge_runtime.backends.tflite import load_interpreter_class

        interpreter_class, package = load_interpreter_class()
        interpreter = interpreter_class(model_path=path, num_threads=spec.threads)
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        interpreter.set_tensor(detail["index"], noise.astype(detail["dtype"]))
        return Opened(interpreter.invoke, None, {"interpreter": package})
    if spec.runtime == "openvino":
        import openvino

        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": spec.threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = openvino.Core().compile_model(path, "CPU", config).create_infer_request()
        request.set_input_tensor(openvino.Tensor(noise))
        return Opened(request.infer, None, {"interpreter": f"openvino {openvino.__version__}"})
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = spec.threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: noise}
    return Opened(lambda: session.run(None, feed), None, {"interpreter": f"onnxruntime {onnxruntime.__version__}"})


def _full(spec: Spec, size: tuple[int, int], noise: Float32Array) -> Opened:
    """The Keras model as trained; its explanation is Grad-CAM by GradientTape.

    A model without the layer at which runs are split (exported with another ``--split-layer``) gives no maps.
    """
    import keras
    import tensorflow as tf

    from sonoedge.benchmarks.measure.gradient_truth import features, grad_cam
    from sonoedge.export.convert.splitting import split_model
    from sonoedge.train.models.fusion import load_model, logit_model

    tf.config.threading.set_intra_op_parallelism_threads(spec.threads)
    model = load_model(Path(spec.path))
    scorer = logit_model(model)
    try:
        parts = split_model(model)
    except ModelError:
        parts = None

    def score(path: str, timed: bool) -> dict[str, Any]:
        model_input = to_input(read_image(path), size)
        if parts is None:
            return {"logit": float(scorer.predict_on_batch(model_input).item()), "stages_ms": {}}
        found = grad_cam(parts, features(parts, model_input))
        return {"logit": found.logit, "stages_ms": {}, "cam": found.cam.astype(float).tolist()}

    executed = {"interpreter": f"keras {keras.__version__}, tensorflow {tf.__version__}", "threads": spec.threads}
    return Opened(lambda: model.predict_on_batch(noise), score, executed)


def _file(spec: Spec, size: tuple[int, int], noise: Float32Array) -> Opened:
    """One TensorFlow Lite file from image to probability."""
    runner = open_model(Path(spec.path), spec.runtime, threads=spec.threads)
    (image,), (output,) = runner.input_shapes, runner.output_shapes

    def score(path: str, timed: bool) -> dict[str, Any]:
        start = perf_counter()
        value = float(runner.run({image: to_input(read_image(path), size)})[output].reshape(()))
        # An int8 probability has steps of 1/256 and reaches 0 and 1: clipping half a step keeps the logit finite.
        p = min(max(value, 1 / 512), 1 - 1 / 512)
        return {"logit": float(np.log(p / (1 - p))), "stages_ms": {"total": 1e3 * (perf_counter() - start)}}

    return Opened(lambda: runner.run({image: noise}), score, {**runner.device, **_delegation(runner)})


def _delegation(runner: Any) -> dict[str, Any]:
    """Numbers of operators and XNNPACK partitions of a TensorFlow Lite file; empty for other interpreters."""
    details = getattr(getattr(runner, "_interpreter", None), "_get_ops_details", None)
    if details is None:
        return {}
    names = [operator["op_name"] for operator in details()]
    return {"operators": len(names) - names.count("DELEGATE"), "xnnpack_partitions": names.count("DELEGATE")}
