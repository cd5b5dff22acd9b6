"""Drift: the mean of what was seen against the mean of what was trained on."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.device.monitor import drift_samples
from sonoedge.edge_runtime.model.drift import Drift
from sonoedge.edge_runtime.model.gate import Gate, features_of
from sonoedge.edge_runtime.serve.station import AnswerOptions, Station

RNG = np.random.default_rng(5)
DIRECTIONS = {"a": np.array([0.6, 0.8]), "b": np.array([0.6, 0.0, 0.8])}
SPREAD = 0.01


def gate() -> Gate:
    """Of features around the two directions, with that spread in every channel."""
    mean = np.concatenate(list(DIRECTIONS.values())).astype(np.float32)
    return Gate(
        branches=("a", "b"),
        widths=(2, 3),
        mean=mean,
        inverse_std=np.full(5, 1 / SPREAD, np.float32),
        components=np.zeros((0, 5), np.float32),
        variances=np.zeros(0, np.float32),
        noise=1.0,
        threshold=6.0,
        warning=3.0,
    )


def features(count: int, *, tilt: float = 0.0) -> list[np.ndarray]:
    """Of maps with pooled vectors near the directions; ``tilt`` turns branch b, in spreads."""
    found = []
    for noise in RNG.normal(size=(count, 5)) * SPREAD:
        a = DIRECTIONS["a"] + noise[:2]
        b = DIRECTIONS["b"] + noise[2:] + np.array([0.8, 0.0, -0.6]) * tilt * SPREAD
        maps = {
            "map_a": np.broadcast_to(3 * a, (1, 2, 2, 2)).astype(np.float32),
            "map_b": np.broadcast_to(7 * b, (1, 1, 1, 3)).astype(np.float32),
        }
        found.append(features_of(maps, ("a", "b")))
    return found


def seen(images: list[np.ndarray]) -> dict[str, Any]:
    drift = Drift(gate())
    for image in images:
        drift.add(image)
    return drift.to_json()


def test_images_like_those_of_training_show_no_more_than_chance() -> None:
    body = seen(features(400))
    assert body["images"] == 400
    assert body["by_chance"] == pytest.approx(0.05)
    assert body["shift"] < 2 * body["by_chance"]
    assert body["distance"] == pytest.approx(0.7, abs=0.4)  # lengths are one: two of five directions are gone


def test_a_small_shift_of_all_images_is_seen_in_the_branch_that_has_it() -> None:
    body = seen(features(100, tilt=1.5))
    assert body["by_branch"]["b"] > 5 * body["by_chance"]
    assert body["by_branch"]["a"] < 3 * body["by_chance"]
    assert body["refused"] == 0


def test_nothing_seen_is_no_number() -> None:
    body = seen([])
    assert (body["images"], body["shift"], body["by_chance"], body["distance"]) == (0, None, None, None)
    assert drift_samples({"x": body}) == [
        line
        for key in ("images", "flagged", "refused")
        for line in (f"# TYPE sonoedge_drift_{key} gauge", f'sonoedge_drift_{key}{{artifact="x"}} 0')
    ]


def test_what_is_not_a_number_is_refused_and_spoils_no_mean() -> None:
    drift = Drift(gate())
    image = features(1)[0]
    drift.add(image)
    before = drift.to_json()
    verdict = drift.add(np.append(image[:-1], np.float32("nan")))
    assert not verdict.within_limit
    assert drift.to_json() == {**before, "refused": 1}
    json.dumps(drift.to_json(), allow_nan=False)


def test_threads_lose_no_image() -> None:
    drift, images = Drift(gate()), features(20)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(drift.add, images * 20))
    assert drift.to_json()["images"] == 400
    assert drift.to_json()["shift"] == pytest.approx(seen(images)["shift"], abs=1e-4)


def test_predict_and_station_report_it(gated: Bundle, phantoms: Path, tmp_path: Path, sonoedge: Any) -> None:
    command = ["predict", "--bundle", gated.path, "--artifact", "tflite-fp32", phantoms / "benign", "--counters"]
    assert sonoedge(*command, tmp_path / "counters.json").code == 0
    found = json.loads((tmp_path / "counters.json").read_text())["drift"]["tflite-fp32"]
    assert sonoedge(*command, tmp_path / "counters.prom").code == 0
    text = (tmp_path / "counters.prom").read_text()
    assert f'sonoedge_drift_shift{{artifact="tflite-fp32"}} {found["shift"]}' in text
    assert 'sonoedge_drift_branch_shift{artifact="tflite-fp32",branch="branch_0"}' in text

    station = Station(gated.path, "tflite-fp32", threads=1)
    station.open()
    images = sorted((phantoms / "benign").glob("*.png"))
    for path in images:
        station.answer(path.read_bytes(), AnswerOptions())
    station.close()
    drift = station.drifts["tflite-fp32"].to_json()
    assert drift["images"] == found["images"] == len(images)
    assert drift["shift"] == pytest.approx(found["shift"], abs=1e-3)
