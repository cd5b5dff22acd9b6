"""Live frames over a web socket."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from sonoedge.edge_runtime.serve.live import MAX_FRAME, MAX_STREAMS
from tests.helpers.pictures import board, grey
from tests.helpers.places import VECTORS
from tests.helpers.stations import GOOD, PATIENCE, Running, encode, frame, gauge, run_server, until


def live(running: Running, query: str = "", **options: Any) -> Any:
    return connect(f"ws://127.0.0.1:{running.port}/v1/live{query}", open_timeout=PATIENCE, **options)


def test_live_frames_are_answered_in_order(running: Running) -> None:
    with live(running) as stream:
        for number in range(1, 6):
            stream.send(encode(frame(seed=number), "JPEG"))
            answer = json.loads(stream.recv(timeout=PATIENCE))
            assert answer["frame"] == number
            assert answer["dropped"] == 0
            assert 0 <= answer["smoothed"] <= 1
            assert set(answer["explanation"]["maps"]) == {"fused", "branch_0", "branch_1"}
            assert answer["band"] is None


def test_a_refused_live_frame_has_no_number_and_leaves_the_filter_alone() -> None:
    with run_server(VECTORS / "bundle") as gated, live(gated, "?views=3") as stream:
        answers = []
        for picture in (grey(), board(), grey()):
            stream.send(encode(picture))
            answers.append(json.loads(stream.recv(timeout=PATIENCE)))
        before, refused, after = answers
        assert (refused["verdict"], refused["reasons"]) == ("refused", ["outside_training", "not_b_mode"])
        numbers = ("label", "probability", "logit", "smoothed", "recent", "band", "explanation")
        assert [refused[key] for key in numbers] == [None] * len(numbers)
        assert after["smoothed"] == pytest.approx(before["smoothed"], abs=1e-6)
        assert (before["band"]["views"], before["verdict"]) == (3, "suspicious")
        assert 'verdict="refused"} 1' in httpx.get(f"{gated.url}/metrics", timeout=PATIENCE).text


@pytest.mark.parametrize("views", ["0", "10", "x", "-1"])
def test_live_views_that_make_no_sense(views: str, running: Running) -> None:
    with pytest.raises((InvalidStatus, ConnectionClosed)), live(running, f"?views={views}") as stream:
        stream.recv(timeout=PATIENCE)


def test_the_newest_frame_wins(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, go_on = running.station.answer, threading.Event()

    def held(*arguments: Any) -> Any:
        assert go_on.wait(PATIENCE)
        return answer(*arguments)

    monkeypatch.setattr(running.station, "answer", held)
    picture = encode(frame(), "JPEG")
    before = gauge(running.url, "live_frames_total")
    with live(running) as stream:
        for _ in range(30):
            stream.send(picture)
        until(lambda: gauge(running.url, "live_frames_total") == before + 30)
        go_on.set()
        seen = []
        while not seen or seen[-1]["frame"] < 30:
            seen.append(json.loads(stream.recv(timeout=PATIENCE)))
    assert len(seen) + seen[-1]["dropped"] == 30
    assert len(seen) <= 3  # two in hand, and the newest


def test_a_bad_frame_does_not_end_the_stream(running: Running) -> None:
    with live(running) as stream:
        stream.send(b"garbage")
        answer = json.loads(stream.recv(timeout=PATIENCE))
        assert answer["frame"] == 1
        assert "not a PNG" in answer["error"]
        stream.send(GOOD)
        assert "smoothed" in json.loads(stream.recv(timeout=PATIENCE))


@pytest.mark.parametrize("message", ["text", b"", bytes(MAX_FRAME + 1), bytes(MAX_FRAME + 100_000)])
def test_messages_that_are_no_frame(message: Any, running: Running, client: httpx.Client) -> None:
    with live(running) as stream, pytest.raises(ConnectionClosed):
        stream.send(message)
        stream.recv(timeout=PATIENCE)
    assert client.get("/healthz").status_code == 200


def test_other_sites_get_no_stream(running: Running) -> None:
    with pytest.raises(InvalidStatus), live(running, origin="http://evil.example"):
        pass


def test_leaving_in_mid_frame(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(12):
        until(lambda: gauge(running.url, "live_streams") < MAX_STREAMS)
        stream = live(running)
        stream.send(GOOD)
        stream.socket.shutdown(socket.SHUT_RDWR)
        stream.socket.close()
    until(lambda: gauge(running.url, "live_streams") == 0)
    with live(running) as stream:
        stream.send(GOOD)
        assert "smoothed" in json.loads(stream.recv(timeout=PATIENCE))
    assert "internal error" not in caplog.text


def test_too_many_streams(running: Running) -> None:
    until(lambda: gauge(running.url, "live_streams") == 0)
    streams = [live(running) for _ in range(MAX_STREAMS)]
    try:
        with pytest.raises((InvalidStatus, ConnectionClosed)), live(running) as extra:
            extra.recv(timeout=PATIENCE)
    finally:
        for stream in streams:
            stream.close()
