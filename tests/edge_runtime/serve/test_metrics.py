"""What /metrics counts."""

from __future__ import annotations

import re

import httpx

from sonoedge.edge_runtime.serve.metrics import Metrics
from tests.helpers.stations import GOOD, OCTETS


def test_metrics(client: httpx.Client) -> None:
    client.post("/v1/predict", content=GOOD, headers=OCTETS)
    text = client.get("/metrics").text
    assert re.search(r'^sonoedge_verdicts_total\{artifact="tflite-fp32",verdict="\w+"\} [1-9]', text, re.M)
    assert re.search(r"^sonoedge_answer_seconds_count [1-9]", text, re.M)
    assert "sonoedge_ready 1" in text


def test_histogram_buckets_are_cumulative() -> None:
    metrics = Metrics()
    for seconds in (0.02, 0.2, 30.0):
        metrics.answered("a", "suspicious", seconds)
    counts = [int(n) for n in re.findall(r'bucket\{le="[^"]+"\} (\d+)', metrics.text({}))]
    assert counts == sorted(counts)
    assert counts[-1] == 3
