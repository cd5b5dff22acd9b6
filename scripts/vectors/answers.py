"""Vectors of the model's answers: heat maps, decisions, verdicts, distances, cascades."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.vectors.generated import CASCADED, DRAWN, VECTORS, drawn, mixed, noise, pack
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.explain.colormap import COLORMAP
from sonoedge.edge_runtime.explain.gradcam import explanation, heat_map, overlay
from sonoedge.edge_runtime.model.assess import Band, assess
from sonoedge.edge_runtime.model.cascade import Cascade
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.gate import GateResult

_ANSWERED = [(48, 48), (96, 131), (30, 41), (768, 1024)]


def heat_vectors() -> dict[str, Any]:
    """Results of `edge_runtime.explain.colormap` and `edge_runtime.explain.gradcam`: peaks, zeros, one cell."""
    rng = np.random.default_rng(7)
    maps = [rng.normal(size=(7, 7)), rng.normal(size=(5, 3)) * 100, np.zeros((7, 7)), [[2.0]], [[-1.0, -2.0]]]
    cases = []
    for seed, (cam, size) in enumerate(zip(maps, [(24, 31), (40, 40), (9, 9), (6, 5), (8, 8)], strict=True)):
        cam = np.asarray(cam, np.float32)
        for positive in (True, False):
            shown = np.maximum(cam if positive else -cam, 0.0)
            heat = heat_map(shown, size)
            over = overlay(noise(*size, seed), heat)
            cases.append(
                {"cam": pack(cam), "positive": positive, "seed": seed, "heat": pack(heat), "overlay": pack(over)}
            )
    return {"colormap": pack(COLORMAP), "cases": cases}


def decision_vectors() -> list[dict[str, Any]]:
    """Labels of probabilities and thresholds. Thresholds are inclusive: on the threshold a picture is positive."""
    bundle = load_bundle(VECTORS / "bundle")
    pairs = [
        (0.0, 0.0),
        (0.0, 0.5),
        (0.5, 0.5),
        (0.4999999, 0.5),
        (0.5000001, 0.5),
        (1.0, 1.0),
        (0.2, 0.1),
        (0.9, 1.0),
    ]
    return [
        {
            "probability": p,
            "threshold": t,
            "label": bundle.positive_label if p >= t else bundle.negative_label,
        }
        for p, t in pairs
    ]


def assess_vectors() -> dict[str, Any]:
    """`edge_runtime.model.assess.assess` over the product of gates, hints, bands and probabilities, in that order.

    ``expected`` has one character for each combination, a place in ``assessments``; the last factor runs fastest.
    A null in a gate's distance stands for NaN; a null gate or band stands for none.
    """
    bundle, threshold = load_bundle(VECTORS / "bundle"), 0.5
    gates = [None, *(GateResult(distance, 2.0, 1.0) for distance in (0.5, 1.0, 1.25, 2.0, 2.25, float("nan")))]
    gates += [GateResult(0.75, 0.5, 3.0), GateResult(0.25, 0.5, 3.0)]
    found = [
        (),
        ("flat",),
        ("colour",),
        ("speckle",),
        ("small", "dark", "bright", "overlay"),
        ("colour", "overlay"),
    ]
    bands = [None, Band(0.25, 0.75, 5), Band(0.5, 0.75, 5), Band(0.25, 0.5, 5), Band(0.125, 0.25, 5)]
    probabilities = [0.25, 0.5, 0.75]
    assessments: list[dict[str, Any]] = []
    expected = ""
    for gate in gates:
        for codes in found:
            for band in bands:
                for probability in probabilities:
                    verdict = assess(bundle, probability, threshold, gate=gate, hints=codes, band=band).to_json()
                    if verdict not in assessments:
                        assessments.append(verdict)
                    expected += str(assessments.index(verdict))
    return {
        "labels": list(bundle.labels),
        "positive_label": bundle.positive_label,
        "threshold": threshold,
        "gates": [gate and gate.to_json() for gate in gates],
        "hints": [list(codes) for codes in found],
        "bands": [band and asdict(band) for band in bands],
        "probabilities": probabilities,
        "assessments": assessments,
        "expected": expected,
    }


def gate_vectors() -> list[dict[str, Any]]:
    """Feature maps of pictures and their distances under the small bundle's gate (`edge_runtime.model.gate`)."""
    bundle = load_bundle(VECTORS / "bundle")
    model, cases = Classifier(bundle, "tflite-fp32", threads=1), []
    for picture in DRAWN[::5]:
        outputs = model.explain_raw(drawn(*picture))[1]
        maps = {branch.name: outputs[f"map_{branch.name}"] for branch in bundle.branches}
        assert model.gate is not None
        gate_result = model.gate.check(outputs)
        cases.append(
            {
                "artifact": "tflite-fp32",
                "maps": {name: pack(array) for name, array in maps.items()},
                "distance": gate_result.distance,
                "warning": gate_result.warning,
                "threshold": gate_result.threshold,
            }
        )
    return cases


def verdict_vectors() -> list[dict[str, Any]]:
    """Answers of both bundles to `drawn` pictures, with and without the gate; 5 ``views`` (with a band), or 1."""
    small, cascade = load_bundle(VECTORS / "bundle"), Cascade(load_bundle(VECTORS / "cascade"), threads=1)
    models = [*(("bundle", Classifier(small, a.name, threads=1)) for a in small.artifacts), ("cascade", cascade)]
    cases = []
    for name, model in models:
        for picture in DRAWN:
            for gated, views in ((True, 1), (False, 1), (True, 5)):
                answer = model.predict(drawn(*picture), ungated=not gated, views=views)
                body = answer.to_json()
                del body["image"], body["latency_ms"]
                if answer.gate is not None:
                    # Unrounded: the limits are single floats of the file.
                    body["gate"] = {key: getattr(answer.gate, key) for key in body["gate"]}
                cases.append(
                    {
                        "bundle": name,
                        "picture": list(picture),
                        "gated": gated,
                        "views": views,
                        **body,
                        "hints": list(answer.hints),
                        "band": asdict(answer.band) if answer.band else None,
                    }
                )
    return cases


def answer_vectors() -> list[dict[str, Any]]:
    """Answers of every artifact of the small bundle to `noise` pictures."""
    bundle = load_bundle(VECTORS / "bundle")
    classifiers = [Classifier(bundle, artifact.name, threads=1) for artifact in bundle.artifacts]
    return [
        {**_answer(model, noise(*size, seed)), "size": list(size), "seed": seed}
        for model in classifiers
        for seed, size in enumerate(_ANSWERED, start=1)
    ]


def _answer(model: Classifier | Cascade, picture: NDArray[np.uint8]) -> dict[str, Any]:
    prediction, outputs = model.explain_raw(picture)
    bundle = model.deciding_model(prediction).bundle
    explained = explanation(bundle, outputs, bundle.positive_label)
    return {
        "artifact": prediction.artifact,
        "label": prediction.label,
        "probability": prediction.probability,
        "logit": prediction.logit,
        "shares": dict(explained.shares),
        "cam": pack(outputs["cam"][0]),
        "branch_cams": {branch.name: pack(outputs[f"cam_{branch.name}"][0]) for branch in bundle.branches},
    }


def cascade_answer_vectors() -> list[dict[str, Any]]:
    """Answers of the cascade to `mixed` pictures; each of the two models decides some of them."""
    cascade = Cascade(load_bundle(VECTORS / "cascade"), threads=1)
    return [
        {**_answer(cascade, mixed(*size, seed, rows)), "size": list(size), "seed": seed, "rows": rows}
        for size, seed, rows in CASCADED
    ]


def cascade_decision_vectors() -> list[dict[str, Any]]:
    """Which model decides, and how: the margin is inclusive, thresholds of 0 and 1 are never near, NaN is not sure.

    The cheap model's logit is ``first_logit`` (null: NaN). If the full model is asked, its logit is 3.
    """
    bundle = load_bundle(VECTORS / "cascade")
    spec, full = bundle.cascade, bundle.artifacts[0]
    assert spec is not None
    cases = []
    for scale, offset, margin, threshold, first_logit in (
        (2.0, 0.25, 1.25, 0.5, 0.5),
        (2.0, 0.25, float(np.nextafter(1.25, 2.0)), 0.5, 0.5),
        (2.0, 0.25, 0.75, 0.5, -0.5),
        (2.0, 0.25, float(np.nextafter(0.75, 1.0)), 0.5, -0.5),
        (2.0, 0.25, 0.0, 0.5, -0.125),
        (0.5, -1.0, 0.3, 0.2, -0.75),
        (0.5, -1.0, 0.3, 0.2, 0.25),
        (0.5, -1.0, 0.3, 0.2, -2.0),
        (1.0, 0.0, 1e9, 0.0, -50.0),
        (1.0, 0.0, 1e9, 1.0, 50.0),
        (1.0, 0.0, 1e9, 0.5, 50.0),
        (1.0, 0.0, 2.0, 0.99, 3.0),
        (1.0, 0.0, 1.0, 0.5, 1000.0),
        (1.0, 0.0, 1.0, 0.5, -1000.0),
        (1.0, 0.0, 1.0, 0.5, float("nan")),
    ):
        changed = replace(spec, scale=scale, offset=offset, margin=margin, full_artifact=full.name)
        cascade = Cascade(
            replace(bundle, cascade=changed, artifacts=(replace(full, threshold=threshold),)), threads=1
        )
        cascade.first.head, cascade.full.head = (
            _Fixed(cascade.first.head, first_logit),
            _Fixed(cascade.full.head, 3),
        )
        prediction, _ = cascade.explain_raw(noise(8, 8))
        cases.append(
            {
                "scale": scale,
                "offset": offset,
                "margin": margin,
                "threshold": threshold,
                "first_logit": None if np.isnan(first_logit) else first_logit,
                "artifact": prediction.artifact,
                "label": prediction.label,
                "logit": prediction.logit,
                "probability": prediction.probability,
            }
        )
    return cases


class _Fixed:
    """A head that always gives the same logit."""

    def __init__(self, head: Any, logit: float) -> None:
        self._head, self._logit = head, logit

    def run(self, maps: Any) -> Any:
        probability = 1 / (1 + np.exp(-np.float64(np.clip(self._logit, -700, 700))))
        fixed = {"logit": self._logit, "probability": probability}
        return {**self._head.run(maps), **{key: np.full((1, 1), fixed[key], np.float32) for key in fixed}}
