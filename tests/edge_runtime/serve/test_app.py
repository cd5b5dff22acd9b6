"""The station as a client sees it: a real server on a loopback port."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.edge_runtime.imaging.image import find_images, read_image
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.words import INTENDED_USE
from tests.helpers.stations import GOOD, OCTETS, Running, encode, frame, until
from tests.helpers.uploads import SECRET, refused


def test_predict_gives_the_classifiers_answer(client: httpx.Client, float_bundle: Path, phantoms: Path) -> None:
    path = find_images(phantoms)[0]
    expected = Classifier(float_bundle, "tflite-fp32", threads=1).predict(read_image(path))
    response = client.post("/v1/predict", files={"image": (f"{SECRET}.png", path.read_bytes(), "text/html")})
    assert response.status_code == 200
    body = response.json()
    assert body["probability"] == pytest.approx(expected.probability, abs=1e-6)
    assert body["label"] == expected.label
    assert set(body["latency_ms"]) == {"decode", "resize", "invoke", "head"}
    assert body["intended_use"] == INTENDED_USE
    assert body["verdict"] in {"suspicious", "not_suspicious"}
    assert (body["band"], body["gate"], body["crop"]) == (None, None, None)
    assert SECRET not in response.text


def test_explain_gives_maps_band_crop_and_preview(client: httpx.Client) -> None:
    screen = np.zeros((300, 400, 3), np.uint8)
    screen[60:260, 80:330] = frame(200, 250) + 30
    response = client.post("/v1/explain?views=5&crop=auto&preview=1", content=encode(screen), headers=OCTETS)
    body = response.json()
    band = body["band"]
    assert band["views"] == 5
    assert band["low"] <= body["probability"] <= band["high"]
    left, top, right, bottom = body["crop"]
    assert abs(left - 80) < 4 and abs(top - 60) < 4 and abs(right - 330) < 4 and abs(bottom - 260) < 4
    explained = body["explanation"]
    assert set(explained["maps"]) == {"fused", "branch_0", "branch_1"}
    assert sum(explained["logit_shares"].values()) == pytest.approx(body["logit"], abs=1e-4)
    assert body["preview"].startswith("data:image/jpeg;base64,")


def test_what_is_no_ultrasound_picture_gets_no_verdict(client: httpx.Client) -> None:
    coloured = frame()
    coloured[..., 0] = 220
    for picture in (coloured, np.full((100, 100, 3), 90, np.uint8)):
        body = client.post("/v1/predict", content=encode(picture), headers=OCTETS).json()
        assert body["verdict"] == "uncertain"
        assert body["hints"]


def test_the_description_matches_the_answers(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    answer = client.post("/v1/explain?views=2", content=GOOD, headers=OCTETS).json()
    schema = document["paths"]["/v1/explain"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    described: dict[str, Any] = {}
    always: set[str] = set()
    for part in schema["allOf"]:
        described |= part["properties"]
        always |= set(part["required"])
    assert set(answer) == always
    assert set(described) - always == {"site"}  # only with the overlay of a site
    assert set(answer["explanation"]) == set(described["explanation"]["anyOf"][0]["properties"])
    for path, methods in document["paths"].items():
        if path != "/v1/live":
            for method in methods:
                assert client.request(method, path).status_code not in {404, 405}, path


def test_bundle_and_files_for_the_browser(client: httpx.Client, float_bundle: Path) -> None:
    info = client.get("/v1/bundle").json()
    assert re.fullmatch(r"[0-9a-f]{64}", info["digest"])
    (artifact,) = info["browser_artifacts"]
    data = client.get(f"/bundle/{artifact['backbone']['path']}").content
    assert data == (float_bundle / artifact["backbone"]["path"]).read_bytes()
    assert len(info["colormap"]) == 256


def test_a_bug_is_a_plain_500(
    running: Running, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError(f"{SECRET} in /home/somebody")

    monkeypatch.setattr(running.station, "answer", broken)
    response = client.post("/v1/predict", content=GOOD, headers=OCTETS)
    assert response.status_code == 500
    assert response.json() == {"error": "Internal error."}
    # The answer goes out before the line is logged.
    until(lambda: "ZeroDivisionError at broken" in caplog.text)
    assert SECRET not in caplog.text


def test_a_model_that_gives_no_number(
    running: Running, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise ModelError("The model did not answer with a number.")

    monkeypatch.setattr(running.station, "answer", silent)
    refused(client.post("/v1/predict", content=GOOD, headers=OCTETS))


def test_a_port_in_use_and_no_bundle(float_bundle: Path, tmp_path: Path, sonoedge: Any, running: Running) -> None:
    assert sonoedge("serve", "--bundle", float_bundle, "--port", running.port).code == 2
    result = sonoedge("serve", "--bundle", tmp_path)
    assert result.code == 4


def test_a_loop_is_answered_by_the_frame_that_is_named(client: httpx.Client) -> None:
    """Without a number there is no answer, but how many frames there are; the answer is the frame's own."""
    frames = [frame(), frame(seed=1)]
    loop = encode(frames[0], "TIFF", save_all=True, append_images=[Image.fromarray(frames[1])])
    response = client.post("/v1/predict", content=loop, headers=OCTETS)
    assert response.status_code == 422
    assert response.json()["frames"] == 2
    answers = [client.post(f"/v1/predict?frame={n}", content=loop, headers=OCTETS).json() for n in (1, 2)]
    alone = [client.post("/v1/predict", content=encode(f), headers=OCTETS).json() for f in frames]
    assert [a["logit"] for a in answers] == [a["logit"] for a in alone]
    assert answers[0]["logit"] != answers[1]["logit"]
    refused(client.post("/v1/predict?frame=3", content=loop, headers=OCTETS))
