"""Hostile uploads: bodies, forms and requests that hold no picture."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest

from tests.helpers.stations import GOOD, OCTETS
from tests.helpers.uploads import SECRET, bodies, refused, zipped

BODIES = bodies()


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_no_image(name: str, client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        refused(client.post("/v1/predict", content=BODIES[name], headers=OCTETS))
    assert SECRET not in caplog.text
    assert client.get("/healthz").status_code == 200


def form(*parts: bytes, boundary: bytes = b"xx", end: bool = True) -> bytes:
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return body + (b"--" + boundary + b"--\r\n" if end else b"")


def part(name: str = "image", filename: str | None = "x.png", data: bytes = GOOD) -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    return f'content-disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data


MULTIPART = "multipart/form-data; boundary=xx"


FORMS: dict[str, tuple[str, bytes]] = {
    "text type": ("text/plain", GOOD),
    "json type": ("application/json", GOOD),
    "no type": ("", GOOD),
    "urlencoded": ("application/x-www-form-urlencoded", b"image=abc"),
    "video type": ("video/mp4", GOOD),
    "no boundary": ("multipart/form-data", form(part())),
    "empty form": (MULTIPART, b""),
    "form end": (MULTIPART, form()),
    "other boundary": ("multipart/form-data; boundary=yy", form(part())),
    "cut form": (MULTIPART, form(part())[:200]),
    "no end": (MULTIPART, form(part(), end=False)[:-40]),
    "other field": (MULTIPART, form(part("picture"))),
    "text field": (MULTIPART, form(part(filename=None, data=b"hello"))),
    "two files": (MULTIPART, form(part(), part())),
    "many fields": (MULTIPART, form(*(part(f"f{i}", None, b"x") for i in range(50)))),
    "no disposition": (MULTIPART, form(b"\r\n\r\n" + GOOD)),
    "no name": (MULTIPART, form(b"content-disposition: form-data\r\n\r\nx")),
    "traversal": (MULTIPART, form(part(filename="../../etc/passwd", data=b"x"))),
    "secret file name": (MULTIPART, form(part(filename=SECRET, data=b"x"))),
    "long file name": (MULTIPART, form(part(filename="n" * 9000, data=b"x"))),
    "null header": (MULTIPART, form(b'content-disposition: form-data; name="image\0"\r\n\r\nx')),
    "empty file": (MULTIPART, form(part(data=b""))),
    "long header": (MULTIPART, form(b"x-a: " + b"b" * 70_000 + b"\r\n\r\nx")),
    "header noise": (MULTIPART, form(bytes(range(128, 200)))),
    "long boundary": ("multipart/form-data; boundary=" + "b" * 3000, form(part(), boundary=b"b" * 3000)),
    "mixed": ("multipart/mixed; boundary=xx", form(part())),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_that_hold_no_image(name: str, client: httpx.Client) -> None:
    kind, body = FORMS[name]
    response = client.post("/v1/predict", content=body, headers={"content-type": kind} if kind else {})
    if name == "long boundary" and response.status_code == 200:
        return  # a legal form all the same
    refused(response)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/predict?views=0", 400),
        ("POST", "/v1/predict?views=10", 400),
        ("POST", "/v1/predict?views=-1", 400),
        ("POST", "/v1/predict?views=1e1", 400),
        ("POST", "/v1/predict?views=%D9%A3", 400),
        ("POST", "/v1/predict?views=NaN", 400),
        ("POST", "/v1/predict?frame=0", 400),
        ("POST", "/v1/predict?frame=10001", 400),
        ("POST", "/v1/predict?crop=1,2", 400),
        ("POST", "/v1/predict?preview=yes", 400),
        ("POST", "/v1/predict?x=%00", 400),
        ("GET", "/v1/predict", 405),
        ("DELETE", "/v1/predict", 405),
        ("POST", "/", 405),
        ("GET", "/v1/session", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/index.htm", 404),
        ("GET", "/bundle/bundle.json", 404),
        ("GET", "/bundle/SHA256SUMS", 404),
        ("GET", "/bundle/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/..%2f..%2fetc/passwd", 404),
        ("GET", "/bundle//etc/passwd", 404),
        ("GET", "/bundle/tflite-fp32/%00", 404),
        ("GET", "/static/app.py", 404),
    ],
)
def test_other_requests(method: str, path: str, status: int, client: httpx.Client) -> None:
    response = client.request(method, path, content=GOOD if method == "POST" else None, headers=OCTETS)
    assert response.status_code == status
    refused(response)


def test_a_body_that_grows_over_the_limit(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(100_000)

    refused(client.post("/v1/predict", content=endless(), headers=OCTETS))


@pytest.mark.parametrize("tail", [zipped(), b"<html><script>alert(1)</script>", b"\0" * 1000])
def test_polyglots_are_images_and_nothing_else(tail: bytes, client: httpx.Client) -> None:
    response = client.post("/v1/predict?preview=1", content=GOOD + tail, headers=OCTETS)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert b"script" not in response.content
