"""Load and back-pressure: who waits, and who is told to come back."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from sonoedge.edge_runtime.serve.admission import Admission, Busy
from sonoedge.edge_runtime.serve.app import Settings
from tests.helpers.stations import GOOD, OCTETS, PATIENCE, Running, encode, frame, gauge, run_server, until
from tests.helpers.uploads import HEAD


def test_two_hundred_uploads_at_once_are_all_answered(running: Running) -> None:
    images = [encode(frame(seed=i)) for i in range(8)]

    limits = httpx.Limits(max_connections=200)
    client = httpx.Client(base_url=running.url, timeout=PATIENCE, limits=limits)

    def ask(index: int) -> tuple[int, float]:
        response = client.post("/v1/predict", content=images[index % 8], headers=OCTETS)
        return index % 8, response.json()["probability"]

    with client, ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(ask, range(200)))
    assert len(answers) == 200
    for which in range(8):
        assert len({round(probability, 6) for index, probability in answers if index == which}) == 1


def test_a_full_line_is_told_to_come_back() -> None:
    async def scenario() -> None:
        admission, leave = Admission(active=2, waiting=3), asyncio.Event()
        inside = served = 0

        async def visit() -> None:
            nonlocal inside, served
            async with admission.turn():
                inside += 1
                assert inside <= 2
                await leave.wait()
                inside -= 1
                served += 1

        visits = [asyncio.create_task(visit()) for _ in range(9)]
        late = await asyncio.gather(*visits[5:], return_exceptions=True)
        assert [type(error) for error in late] == [Busy] * 4
        assert (inside, admission.present) == (2, 5)
        leave.set()
        await asyncio.gather(*visits[:5])
        assert (served, admission.present) == (5, 0)

    asyncio.run(scenario())


def test_a_full_line_is_503(float_bundle: Path) -> None:
    with run_server(float_bundle, Settings(waiting=0, read_seconds=PATIENCE)) as running:
        blockers = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(4)]
        for blocker in blockers:
            blocker.sendall(HEAD + b"content-length: 100\r\n\r\n")
        until(lambda: gauge(running.url, "requests_present") == 4)
        response = httpx.post(f"{running.url}/v1/predict", content=GOOD, headers=OCTETS, timeout=PATIENCE)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        for blocker in blockers:
            blocker.close()
        until(lambda: gauge(running.url, "requests_present") == 0)
        response = httpx.post(f"{running.url}/v1/predict", content=GOOD, headers=OCTETS, timeout=PATIENCE)
        assert response.status_code == 200
