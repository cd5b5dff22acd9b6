"""Counters: every answer and refusal once, in JSON and in the Prometheus text format, and nothing of an image."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.device.monitor import LATENCY_BOUNDS_MS, PROBABILITY_BOUNDS, Histogram, Monitor
from sonoedge.edge_runtime.model.assess import Assessment
from sonoedge.edge_runtime.model.result import Result
from tests.helpers.places import SMALL_BUNDLE


def answer(
    probability: float | None = 0.7,
    *,
    verdict: str = "suspicious",
    reasons: tuple[str, ...] = (),
    artifact: str = "tflite-int8",
) -> Result:
    return Result(
        image="patients/Jane Doe.png",
        label=None,
        probability=probability,
        logit=None,
        threshold=0.5,
        artifact=artifact,
        latency_ms={"decode": 1.0, "resize": 2.0, "invoke": 40.0, "head": 0.5},
        assessment=Assessment(verdict, reasons, ""),
        gate=None,
        hints=(),
        band=None,
        frame=None,
        picture=np.zeros((2, 2, 3), np.uint8),
        outputs=None,
        features=None,
        bundle=load_bundle(SMALL_BUNDLE),
    )


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'[a-z_]+(\{([a-z]+="(\\.|[^"\\])*",?)+\})? \S+', line) for line in lines), lines
    return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines)}


def test_answers_and_refusals_are_counted() -> None:
    monitor = Monitor()
    for probability in (0.05, 0.1, 0.95):
        monitor.answered(answer(probability))
    monitor.answered(answer(None, verdict="refused", reasons=("unlike_training", "not_b_mode")))
    monitor.answered(answer(0.2, verdict="not_suspicious", artifact="openvino-int8"))
    monitor.unreadable("ImageError")
    monitor.unreadable("ImageError")
    body = monitor.to_json()
    assert body["verdicts"] == [
        {"artifact": "openvino-int8", "verdict": "not_suspicious", "count": 1},
        {"artifact": "tflite-int8", "verdict": "refused", "count": 1},
        {"artifact": "tflite-int8", "verdict": "suspicious", "count": 3},
    ]
    assert body["reasons"] == [
        {"artifact": "tflite-int8", "reason": "not_b_mode", "count": 1},
        {"artifact": "tflite-int8", "reason": "unlike_training", "count": 1},
    ]
    assert body["unreadable"] == {"ImageError": 2}
    counts = body["probability"]["tflite-int8"]["counts"]
    assert (counts[0], counts[9], sum(counts)) == (2, 1, 3)  # bounds are inclusive
    assert body["latency_ms"]["tflite-int8"]["sum"] == pytest.approx(4 * 43.5)
    assert "Jane" not in json.dumps(body, allow_nan=False) + monitor.prometheus()


def test_prometheus_text() -> None:
    monitor = Monitor()
    monitor.answered(answer(0.25))
    monitor.unreadable('odd "reason"\\\n')
    found = samples(monitor.prometheus())
    assert found['sonoedge_verdicts_total{artifact="tflite-int8",verdict="suspicious"}'] == 1
    assert found['sonoedge_unreadable_total{error="odd \\"reason\\"\\\\\\n"}'] == 1
    buckets = [found[f'sonoedge_probability_bucket{{artifact="tflite-int8",le="{b}"}}'] for b in PROBABILITY_BOUNDS]
    assert buckets == [0, 0, *[1] * 8]
    assert found['sonoedge_latency_milliseconds_bucket{artifact="tflite-int8",le="+Inf"}'] == 1
    assert found['sonoedge_latency_milliseconds_count{artifact="tflite-int8"}'] == 1


def test_values_beyond_the_bounds_are_counted() -> None:
    histogram = Histogram(LATENCY_BOUNDS_MS)
    histogram.add(1e9)
    histogram.add(0.0)
    assert histogram.counts[-1] == histogram.counts[0] == 1


def test_threads_lose_nothing() -> None:
    monitor = Monitor()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(400):
            pool.submit(monitor.answered, answer())
    assert monitor.to_json()["verdicts"][0]["count"] == 400


def test_predict_writes_counters(run_bundle: Path, tmp_path: Path, sonoedge: Callable) -> None:
    image = np.full((30, 40, 3), 90, np.uint8)
    Image.fromarray(image).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    command = ["predict", "--bundle", run_bundle, tmp_path / "good.png", tmp_path / "bad.png", "--counters"]
    assert sonoedge(*command, tmp_path / "counters.json").code == 3
    body = json.loads((tmp_path / "counters.json").read_text())
    assert [item["count"] for item in body["verdicts"]] == [1]
    assert body["unreadable"] == {"ImageError": 1}
    assert sonoedge(*command, tmp_path / "counters.prom").code == 3
    text = (tmp_path / "counters.prom").read_text()
    assert samples(text)['sonoedge_unreadable_total{error="ImageError"}'] == 1
    assert "good" not in text
