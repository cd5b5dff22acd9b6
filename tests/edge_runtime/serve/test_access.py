"""Who may ask a station: names, sites, tokens, and a reverse proxy in front."""

from __future__ import annotations

import json
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.serve.access import origin_of
from sonoedge.edge_runtime.serve.app import Settings
from sonoedge.edge_runtime.serve.throttle import SECONDS, WRONG, Throttle
from tests.helpers.stations import GOOD, OCTETS, PATIENCE, run_server

TOKEN = "a-long-token"
PUBLIC = "https://station.example"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"]
)
def test_other_names_for_this_address_are_refused(host: str, client: httpx.Client) -> None:
    response = client.get("/v1/bundle", headers={"host": host})
    assert response.status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:1"},
        {"origin": "http://["}, {"origin": "http://[::1"}, {"origin": ""},
        {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
    ],
)  # fmt: skip
def test_other_sites_are_refused(headers: dict[str, str], client: httpx.Client) -> None:
    response = client.post("/v1/predict", content=GOOD, headers={**OCTETS, **headers})
    assert response.status_code == 403
    assert response.json() == {"error": "Requests from other sites are refused."}


def bearer(token: str) -> dict[str, bytes]:
    return {"authorization": f"Bearer {token}".encode()}


def test_token(float_bundle: Path) -> None:
    with (
        run_server(float_bundle, Settings(token=TOKEN)) as running,
        httpx.Client(base_url=running.url, timeout=PATIENCE) as client,
    ):
        assert client.get("/").status_code == 200
        for path in ("/v1/bundle", "/metrics", "/bundle/x", "/v1/live"):
            assert client.get(path).status_code == 401, path
        assert client.get("/v1/bundle", headers=bearer(TOKEN[:-1])).status_code == 401
        assert client.get("/v1/bundle", headers=bearer(TOKEN)).status_code == 200
        with pytest.raises(InvalidStatus), connect(running.url.replace("http", "ws") + "/v1/live"):
            pass
        bodies = (b"", b"[]", b'{"token": NaN}', b'{"token": 5}', b'{"token": "\\ud800"}', b'{"tok', b"[" * 4000)
        for body in (*bodies, b"x" * 9000):
            assert client.post("/v1/session", content=body).status_code in {400, 413}
        assert client.post("/v1/session", json={"token": TOKEN[:-1] + "m"}).status_code == 401
        done = client.post("/v1/session", json={"token": TOKEN})
        assert done.status_code == 204
        cookie = done.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/v1/bundle").status_code == 200


def test_a_token_in_any_script(float_bundle: Path) -> None:
    token = "пароль-ключ-日本"
    with run_server(float_bundle, Settings(token=token)) as running:
        with httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
            assert client.post("/v1/session", json={"token": token}).status_code == 204
            assert client.get("/v1/bundle").status_code == 200
        assert httpx.get(f"{running.url}/v1/bundle", headers=bearer(token), timeout=PATIENCE).status_code == 200
        wrong = httpx.get(f"{running.url}/v1/bundle", headers={"authorization": b"Bearer \xff\xfe"})
        assert wrong.status_code == 401


def test_guesses_have_to_wait(float_bundle: Path) -> None:
    with run_server(float_bundle, Settings(token=TOKEN)) as running:
        visitor, guesser = (httpx.Client(base_url=running.url, timeout=PATIENCE) for _ in range(2))
        with visitor, guesser:
            assert visitor.post("/v1/session", json={"token": TOKEN}).status_code == 204
            codes = [guesser.get("/v1/bundle", headers=bearer(f"guess-{i}")).status_code for i in range(WRONG - 1)]
            codes.append(guesser.post("/v1/session", json={"token": "guess"}).status_code)
            assert codes == [401] * WRONG
            # The right one gets the same answer: nothing is to be learnt by trying.
            for answer in (
                guesser.get("/v1/bundle", headers=bearer("another")),
                guesser.get("/v1/bundle", headers=bearer(TOKEN)),
                guesser.post("/v1/session", json={"token": TOKEN}),
            ):
                assert answer.status_code == 429
                assert 0 < int(answer.headers["retry-after"]) <= SECONDS
            assert visitor.get("/v1/bundle").status_code == 200


def test_the_wait_is_per_address_and_ends() -> None:
    now = 1000.0
    throttle = Throttle(lambda: now)
    for _ in range(WRONG):
        assert throttle.wait("10.0.0.1") == 0
        throttle.wrong("10.0.0.1")
        throttle.wrong("2001:db8::1")
    assert throttle.wait("10.0.0.1") == SECONDS
    assert throttle.wait("10.0.0.2") == 0
    assert throttle.wait("2001:db8::ffff:1") == SECONDS
    assert throttle.wait("2001:db8:0:1::1") == 0
    now += SECONDS - 0.5
    assert throttle.wait("10.0.0.1") == 1
    now += 0.5
    assert throttle.wait("10.0.0.1") == 0
    throttle.wrong("10.0.0.1")
    assert throttle.wait("10.0.0.1") == 0


def test_the_wait_remembers_a_bounded_number_of_addresses() -> None:
    throttle = Throttle(lambda: 0.0)
    for number in range(10_000):
        throttle.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(throttle._seen) < 5000


# --- behind a proxy ----------------------------------------------------------------------


@contextmanager
def proxy(port: int, change: Callable[[bytes], bytes]) -> Iterator[int]:
    """A reverse proxy on a free port: changes the head of a request, passes everything else in both directions."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b""
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                head += line
            if b"\r\nupgrade:" not in head.lower():
                head = re.sub(rb"(?i)connection:[^\r]*\r\n", b"", head) + b"connection: close\r\n"
            head += b"x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n"
            # Either side may be gone before all is said: a station that refuses does not read the body.
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as station:
                station.sendall(change(head) + b"\r\n")
                threading.Thread(target=self.pass_on, args=(station,), daemon=True).start()
                while block := station.recv(65536):
                    self.wfile.write(block)

        def pass_on(self, station: socket.socket) -> None:
            with suppress(OSError, ValueError):
                while block := self.rfile.read1(65536):
                    station.sendall(block)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def kept(head: bytes) -> bytes:
    """As with nginx's ``proxy_set_header Host $host``."""
    return head


def rewritten(head: bytes) -> bytes:
    """As proxies do by themselves: the station's own address."""
    return re.sub(rb"(?i)\r\nhost:[^\r]*", b"\r\nhost: 127.0.0.1:8000", head)


BROWSER = {"host": "station.example", "origin": PUBLIC, "sec-fetch-site": "same-origin"}


@pytest.mark.parametrize("change", [kept, rewritten])
def test_a_page_behind_a_proxy(change: Callable[[bytes], bytes], float_bundle: Path) -> None:
    settings = Settings(token=TOKEN, public_url=f"{PUBLIC}/")
    with run_server(float_bundle, settings) as running, proxy(running.port, change) as port:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=BROWSER, timeout=PATIENCE) as client:
            assert client.get("/").status_code == 200
            assert client.get("/v1/bundle").status_code == 401
            done = client.post("/v1/session", json={"token": TOKEN})
            assert done.status_code == 204
            assert "; Secure" in done.headers["set-cookie"]
            cookie = {"cookie": done.headers["set-cookie"].partition(";")[0]}
            assert client.get("/v1/bundle", headers=cookie).status_code == 200
            assert client.post("/v1/predict", content=GOOD, headers={**OCTETS, **cookie}).status_code == 200
            for site in ("https://evil.example", "http://station.example:81", "null"):
                answer = client.post("/v1/predict", content=GOOD, headers={**OCTETS, **cookie, "origin": site})
                assert answer.status_code == 403
        address = socket.create_connection(("127.0.0.1", port))
        live = "ws://station.example/v1/live"
        # The proxy does not tell that the station has closed: nothing to wait for.
        patience = {"open_timeout": PATIENCE, "close_timeout": 0}
        with connect(live, sock=address, origin=PUBLIC, additional_headers=cookie, **patience) as stream:
            stream.send(GOOD)
            assert json.loads(stream.recv(timeout=PATIENCE))["frame"] == 1


def test_guesses_behind_a_proxy_are_the_clients(float_bundle: Path) -> None:
    settings = Settings(token=TOKEN, public_url=PUBLIC)
    with run_server(float_bundle, settings) as running, proxy(running.port, rewritten) as port:
        for _ in range(WRONG):
            httpx.get(f"http://127.0.0.1:{port}/v1/bundle", headers=bearer("guess"), timeout=PATIENCE)
        codes = [
            httpx.get(f"http://127.0.0.1:{p}/v1/bundle", headers=bearer(TOKEN), timeout=PATIENCE).status_code
            for p in (port, running.port)
        ]
        assert codes == [429, 200]


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://station.example", "https://station.example"), ("https://Station.example:443/x/", PUBLIC),
        ("http://a.example:80", "http://a.example"), ("http://a.example:8080/", "http://a.example:8080"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)  # fmt: skip
def test_public_addresses(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["station.example", "ftp://x", "https://", "https://[", "https://a:b@c", "https://a:x"]
)
def test_public_addresses_that_are_none(url: str, float_bundle: Path, sonoedge: Any) -> None:
    with pytest.raises(UsageError):
        origin_of(url)
    result = sonoedge("serve", "--bundle", float_bundle, "--public-url", url)
    assert result.code == 2
    assert "--public-url" in result.err


def test_what_other_machines_reach_has_a_token_and_a_warning(
    float_bundle: Path, monkeypatch: pytest.MonkeyPatch, sonoedge: Any
) -> None:
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets=None: None)
    result = sonoedge("serve", "--bundle", float_bundle, "--host", "0.0.0.0")
    assert re.search(r"^token: \S{16,}$", result.err, re.M)
    assert re.search(r"^warning: without --certificate and --key .* unencrypted", result.err, re.M)
    secure = ["--host", "0.0.0.0", "--certificate", "cert.pem", "--key", "key.pem"]
    assert "warning" not in sonoedge("serve", "--bundle", float_bundle, *secure).err
    behind = sonoedge("serve", "--bundle", float_bundle, "--public-url", PUBLIC).err
    assert "token:" in behind
    assert f"open {PUBLIC}" in behind
    assert "warning" not in behind
    alone = sonoedge("serve", "--bundle", float_bundle).err
    assert "token:" not in alone
    assert "warning" not in alone
