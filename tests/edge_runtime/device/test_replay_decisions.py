"""A replay compares decisions, not only logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.device.replay import load_golden, replay
from sonoedge.edge_runtime.model.classifier import Classifier
from tests.helpers.places import SMALL_BUNDLE

BUNDLE = SMALL_BUNDLE


@pytest.fixture
def bundle() -> Bundle:
    return load_bundle(BUNDLE)


def at(bundle: Bundle, threshold: float, artifact: str) -> Bundle:
    artifacts = (replace(a, threshold=threshold) if a.name == artifact else a for a in bundle.artifacts)
    return replace(bundle, artifacts=tuple(artifacts))


def test_every_clear_decision_is_compared(bundle: Bundle) -> None:
    result = replay(bundle, "tflite-fp32", load_golden(bundle), threads=1)
    assert result.passed
    assert (result.decisions, result.changed) == (len(load_golden(bundle)["reference_logit"]), 0)


def test_a_wrong_decision_fails_though_the_logit_is_right(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    explain = Classifier.explain_raw

    def mistaken(self: Classifier, *args: Any, **kwargs: Any) -> Any:
        prediction, outputs = explain(self, *args, **kwargs)
        return replace(prediction, label=next(x for x in bundle.labels if x != prediction.label)), outputs

    monkeypatch.setattr(Classifier, "explain_raw", mistaken)
    result = replay(bundle, "tflite-fp32", load_golden(bundle), threads=1)
    assert result.replay_error <= result.tolerance[0]
    assert result.changed == result.decisions > 0
    assert not result.passed


def test_an_image_at_the_threshold_may_fall_on_either_side(bundle: Bundle) -> None:
    golden = load_golden(bundle)
    middle = float(golden["tflite-fp32.logit"][0])
    placed = at(bundle, 1 / (1 + np.exp(-middle)), "tflite-fp32")
    result = replay(placed, "tflite-fp32", golden, threads=1)
    assert (result.decisions, result.changed) == (len(golden["reference_logit"]) - 1, 0)
    assert result.passed


def test_a_threshold_among_probabilities_that_cannot_be_told_apart_decides_nothing(bundle: Bundle) -> None:
    """Regression: logits of 15 lie far from each other and their probabilities do not."""
    golden = dict(load_golden(bundle))
    for key in ("reference_logit", "tflite-fp32.logit"):
        golden[key] = golden[key] + np.float32(20)
    result = replay(at(bundle, 1 - 1e-7, "tflite-fp32"), "tflite-fp32", golden, threads=1)
    assert (result.decisions, result.changed) == (0, 0)
