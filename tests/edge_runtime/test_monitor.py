"""Counters: every answer and refusal once, in JSON and in the Prometheus text format, and nothing of an image."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_runtime.classifier import Prediction
from edge_runtime.monitor import LATENCY_BOUNDS_MS, PROBABILITY_BOUNDS, Drift, Histogram, Monitor


def prediction(probability: float = 0.7, *, label: str = "malignant", artifact: str = "tflite-int8") -> Prediction:
    latency = {"decode": 1.0, "resize": 2.0, "invoke": 40.0, "head": 0.5}
    return Prediction("patients/Jane Doe.png", label, probability, 0.8, 0.5, artifact, latency)


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'[a-z_]+(\{([a-z]+="(\\.|[^"\\])*",?)+\})? \S+', line) for line in lines), lines
    return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines)}


def test_answers_and_refusals_are_counted() -> None:
    monitor = Monitor()
    for probability in (0.05, 0.1, 0.95):
        monitor.answered(prediction(probability))
    monitor.answered(prediction(0.2, label="benign", artifact="openvino-int8"))
    monitor.refused("ImageError")
    monitor.refused("ImageError")
    body = monitor.to_json()
    assert body["answers"] == [
        {"artifact": "openvino-int8", "label": "benign", "count": 1},
        {"artifact": "tflite-int8", "label": "malignant", "count": 3},
    ]
    assert body["refusals"] == {"ImageError": 2}
    counts = body["probability"]["tflite-int8"]["counts"]
    assert (counts[0], counts[9], sum(counts)) == (2, 1, 3)  # bounds are inclusive
    assert body["latency_ms"]["tflite-int8"]["sum"] == pytest.approx(3 * 43.5)
    assert "drift" not in body
    assert "Jane" not in json.dumps(body, allow_nan=False) + monitor.prometheus()


def test_prometheus_text() -> None:
    monitor = Monitor(Drift(np.zeros(2, np.float32), np.ones(2, np.float32)))
    monitor.answered(prediction(0.25), features=np.array([2.0, 2.0], np.float32))
    monitor.refused('odd "reason"\\\n')
    found = samples(monitor.prometheus())
    assert found['sonoedge_answers_total{artifact="tflite-int8",label="malignant"}'] == 1
    assert found['sonoedge_refusals_total{reason="odd \\"reason\\"\\\\\\n"}'] == 1
    buckets = [found[f'sonoedge_probability_bucket{{artifact="tflite-int8",le="{b}"}}'] for b in PROBABILITY_BOUNDS]
    assert buckets == [0, 0, *[1] * 8]
    assert found['sonoedge_latency_milliseconds_bucket{artifact="tflite-int8",le="+Inf"}'] == 1
    assert found['sonoedge_latency_milliseconds_count{artifact="tflite-int8"}'] == 1
    assert found["sonoedge_feature_shift"] == pytest.approx(2.0)


def test_values_beyond_the_bounds_are_counted() -> None:
    histogram = Histogram(LATENCY_BOUNDS_MS)
    histogram.add(1e9)
    histogram.add(0.0)
    assert histogram.counts[-1] == histogram.counts[0] == 1


def test_drift_grows_with_a_shift_and_not_without() -> None:
    random = np.random.default_rng(0)
    mean, deviation = random.normal(size=64).astype(np.float32), np.full(64, 0.5, np.float32)
    deviation[3] = 0  # a dead channel
    same, moved = Drift(mean, deviation), Drift(mean, deviation)
    for _ in range(400):
        features = (mean + deviation * random.normal(size=64)).astype(np.float32)
        same.add(features)
        moved.add(features + 0.5)
    assert same.shift() == pytest.approx(1 / np.sqrt(400), rel=0.3)
    assert moved.shift() == pytest.approx(1.0, rel=0.1)
    assert Drift(mean, deviation).shift() == 0.0
    with pytest.raises(ValueError, match=r"\(64,\), \(3,\)"):
        Drift(mean, deviation[:3])


def test_threads_lose_nothing() -> None:
    monitor = Monitor()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(400):
            pool.submit(monitor.answered, prediction())
    assert monitor.to_json()["answers"][0]["count"] == 400
