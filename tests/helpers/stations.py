"""A real station on a loopback port, and pictures for it; shared by the tests of the server."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image

from sonoedge.edge_runtime.serve.app import Settings, create_app
from sonoedge.edge_runtime.serve.live import MAX_FRAME
from sonoedge.edge_runtime.serve.station import Station

OCTETS = {"content-type": "application/octet-stream"}
PATIENCE = 300.0
"""Seconds after which a test gives up. Nothing depends on it: a machine can be as slow as it likes."""


@dataclass(frozen=True)
class Running:
    """A server in a thread of this process."""

    url: str
    port: int
    station: Station
    server: uvicorn.Server


class _Server(uvicorn.Server):
    up: threading.Event

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()


@contextmanager
def run_server(bundle: Path, settings: Settings | None = None, **config: Any) -> Iterator[Running]:
    """Start a station, wait until its model is open, and stop it at the end."""
    settings = settings or Settings(read_seconds=PATIENCE, max_upload=4 * 2**20)
    station = Station(bundle, "tflite-fp32", threads=1)
    server = _Server(
        uvicorn.Config(
            create_app(station, settings), port=0, log_config=None, log_level="warning", access_log=False,
            server_header=False, ws="websockets-sansio", ws_max_size=MAX_FRAME + 1024, timeout_graceful_shutdown=5,
            **config,
        )
    )  # fmt: skip
    server.up = threading.Event()
    listener = server.config.bind_socket()
    port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert server.up.wait(PATIENCE)
    url = f"http://127.0.0.1:{port}"
    until(lambda: httpx.get(f"{url}/healthz", timeout=PATIENCE).status_code == 200)
    try:
        yield Running(url, port, station, server)
    finally:
        server.should_exit = True
        thread.join(timeout=PATIENCE)
        assert not thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    """Ask again and again until ``condition`` holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)


def gauge(url: str, name: str) -> float:
    """One number of /metrics; 0 where it is not there yet."""
    found = re.search(rf"^sonoedge_{name} (\S+)$", httpx.get(f"{url}/metrics", timeout=PATIENCE).text, re.M)
    return float(found[1]) if found else 0.0


def encode(array: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def frame(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """Grey speckle, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(0, 200, (height, width, 1)).astype(np.uint8), 3, axis=2)


GOOD = encode(frame())
