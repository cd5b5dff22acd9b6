"""Bytes on the wire that are no sound request, and clients that stop or vanish."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import httpx
import pytest

from sonoedge.edge_runtime.serve.app import Settings
from tests.helpers.stations import GOOD, OCTETS, PATIENCE, Running, run_server
from tests.helpers.uploads import HEAD, LEAK


def raw(running: Running, data: bytes, *, wait: float = PATIENCE) -> bytes:
    """Bytes on the wire, and the head of what comes back."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=wait) as connection:
        connection.sendall(data)
        answer = b""
        while b"\r\n\r\n" not in answer and (block := connection.recv(65536)):
            answer += block
        return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00" + bytes(60) + b"\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"4"),
        (HEAD + b"content-length: abc\r\n\r\n", b"400"),
        (HEAD + b"content-length: -5\r\n\r\n", b"400"),
        (HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!", b"400"),
        (HEAD + b"content-length: 99999999999\r\n\r\n", b"413"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (HEAD + b"x: " + b"y" * 70_000 + b"\r\n\r\n", b"4"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", b"4"),
    ],
    ids=[
        "tls",
        "nonsense",
        "no host",
        "length abc",
        "negative",
        "two lengths",
        "length huge",
        "bad chunk",
        "long header",
        "long path",
    ],
)
def test_bytes_on_the_wire(data: bytes, status: bytes, running: Running, client: httpx.Client) -> None:
    answer = raw(running, data)
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
    assert not LEAK.search(answer.decode("latin-1"))
    assert client.get("/healthz").status_code == 200


def test_a_client_that_stops_sending(float_bundle: Path) -> None:
    with run_server(float_bundle, Settings(read_seconds=0.1)) as running:
        assert raw(running, HEAD + b"content-length: 500\r\n\r\nshort").startswith(b"HTTP/1.1 408")


def test_clients_that_vanish(running: Running, client: httpx.Client) -> None:
    for size in (0, 10, 1000):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(HEAD + b"content-length: 100000\r\n\r\n" + GOOD[:size])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert client.post("/v1/predict", content=GOOD, headers=OCTETS).status_code == 200
