"""The station as a client sees it: a real server on a loopback port."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.edge_runtime.imaging.image import find_images, read_image
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.serve.admission import Admission, Busy
from sonoedge.edge_runtime.serve.app import ASSETS, Settings
from sonoedge.edge_runtime.serve.live import MAX_FRAME, MAX_STREAMS
from sonoedge.edge_runtime.serve.metrics import Metrics
from sonoedge.edge_runtime.words import INTENDED_USE
from tests.helpers.drawn import board, grey
from tests.helpers.places import ROOT, VECTORS
from tests.helpers.stations import GOOD, OCTETS, PATIENCE, Running, encode, frame, gauge, run_server, until

SECRET = "Doe^Jane"


@pytest.fixture(scope="module")
def running(float_bundle: Path) -> Iterator[Running]:
    with run_server(float_bundle) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=PATIENCE) as opened:
        yield opened


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
    for part in schema["allOf"]:
        described |= part["properties"]
    assert set(answer) == set(described)
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


def test_page_and_security_headers(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "server" not in page.headers
    names = set(re.findall(r'(?:src|href)="([^"#:]+)"', page.text))
    assert names >= {"style.css", "app.js"}
    for name in names:
        found = client.get(f"/{name}")
        assert found.status_code == 200
        assert client.get(f"/{name}", headers={"if-none-match": found.headers["etag"]}).status_code == 304
    assert client.post("/v1/predict", content=b"x", headers=OCTETS).headers["content-security-policy"] == policy


def test_every_module_of_the_page_is_kept_offline() -> None:
    worker = (ASSETS / "sw.js").read_text()
    for path in ASSETS.iterdir():
        assert path.name in {"sw.js", "index.html"} or f'"{path.name}"' in worker, path.name


def test_the_page_names_no_other_host() -> None:
    for path in ASSETS.iterdir():
        hosts = set(re.findall(r"https?://([^/\"' ]+)", path.read_text()))
        assert hosts <= {"www.w3.org"}, path.name


def test_files_kept_compressed_reach_every_client_whole(float_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "wasm").mkdir()
    content = bytes(range(256)) * 40
    (tmp_path / "wasm/x.wasm.gz").write_bytes(gzip.compress(content))
    with run_server(float_bundle, Settings(litert_js=tmp_path)) as running:
        for accepted, encoding in (("gzip, deflate", "gzip"), ("identity", None)):
            answer = httpx.get(f"{running.url}/litert/wasm/x.wasm", headers={"accept-encoding": accepted})
            assert answer.content == content
            assert answer.headers.get("content-encoding") == encoding
            assert answer.headers["content-type"] == "application/wasm"
            assert answer.headers["vary"] == "accept-encoding"


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


# --- hostile uploads ----------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, data: bytes, *, colour: int = 2, crc_error: bool = False, extra: bytes = b""
) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    if crc_error:
        header = header[:-1] + bytes([header[-1] ^ 1])
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10_000_000))
    return buffer.getvalue()


def tiff(*entries: tuple[int, int, int, int], next_ifd: int = 0) -> bytes:
    body = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    return body + b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", next_ifd)


def bodies() -> dict[str, bytes]:
    """Bodies that are no acceptable image, by name."""
    rng = np.random.default_rng(5)
    jpeg, bmp, tif = encode(frame(), "JPEG"), encode(frame(), "BMP"), encode(frame(), "TIFF")
    idat = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return {
        "empty": b"",
        "one byte": b"\0",
        "random": rng.bytes(5000),
        "text": b"no picture",
        "html": b"<html><script>1",
        "json": b'{"image": 1}',
        "json nan": b'{"image": NaN}',
        "svg": b"<svg xmlns='x' onload='alert(1)'/>",
        "pdf": b"%PDF-1.7\n%%EOF",
        "zip bomb": zipped(),
        "gzip": b"\x1f\x8b\x08" + bytes(50),
        "elf": b"\x7fELF" + bytes(99),
        "pickle": b"\x80\x04\x95" + bytes(40),
        "gif": encode(frame(), "GIF"),
        "webp": b"RIFF\0\0\0\0WEBPVP8 " + bytes(30),
        "ico": b"\0\0\1\0\1\0" + bytes(30),
        "psd": b"8BPS\0\1" + bytes(40),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "mp4": b"\0\0\0\x18ftypmp42" + bytes(40),
        "xbm": b"#define a_width 9\n",
        "ppm": b"P6 9 9 255\n" + bytes(243),
        "zip then png": zipped() + GOOD,
        "html then png": b"<html>" + GOOD,
        "png signature": GOOD[:8],
        "png header only": GOOD[:40],
        "png half": GOOD[: len(GOOD) // 2],
        "png width 0": png(0, 10, idat),
        "png 30000 square": png(30000, 30000, idat),
        "png width 2^31": png(2**31 - 1, 1, idat),
        "png bad checksum": png(10, 10, idat, crc_error=True),
        "png garbage data": png(10, 10, chunk(b"IDAT", b"garbage" * 9)),
        "png no data": png(10, 10, b""),
        "png no palette": png(40, 40, idat, colour=3),
        "png colour 7": png(40, 40, idat, colour=7),
        "png bomb": png(20000, 20000, chunk(b"IDAT", zlib.compress(bytes(3_000_000), 9))),
        "png text bomb": png(40, 40, idat, extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000)))),
        "png 26 megapixel": encode(np.zeros((5200, 5001), np.uint8)),
        "png 1x1": encode(frame(1, 1)),
        "png 1x4000": encode(frame(1, 4000)),
        "jpeg start": jpeg[:2],
        "jpeg header": jpeg[:20],
        "jpeg half": jpeg[: len(jpeg) // 2],
        "jpeg 65000 square": re.sub(b"(\xff\xc0...)....", b"\\1\xfd\xe8\xfd\xe8", jpeg, count=1, flags=re.S),
        "jpeg size 0": re.sub(b"(\xff\xc0...)....", b"\\1\0\0\0\0", jpeg, count=1, flags=re.S),
        "jpeg no scan": jpeg[: jpeg.index(b"\xff\xda")],
        "jpeg noise": jpeg[:30] + rng.bytes(500),
        "bmp short": bmp[:30],
        "bmp half": bmp[: len(bmp) // 2],
        "bmp huge": bmp[:18] + struct.pack("<ii", 90000, 90000) + bmp[26:],
        "bmp size 0": bmp[:18] + struct.pack("<ii", 0, 0) + bmp[26:],
        "bmp bits 77": bmp[:28] + b"\x4d\0" + bmp[30:],
        "bmp offset": bmp[:10] + struct.pack("<I", 2**31) + bmp[14:],
        "tiff header": tif[:8],
        "tiff empty": tiff(),
        "tiff loop": tiff((256, 3, 1, 9), next_ifd=8),
        "tiff outside": b"II*\0" + struct.pack("<I", 2**31),
        "tiff huge": tiff((256, 4, 1, 70000), (257, 4, 1, 70000), (258, 3, 1, 8), (262, 3, 1, 1)),
        "tiff compression 99": tiff(
            (256, 3, 1, 99), (257, 3, 1, 99), (259, 3, 1, 99), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 9)
        ),
        "tiff no strips": tiff((256, 3, 1, 99), (257, 3, 1, 99), (258, 3, 1, 8), (262, 3, 1, 1)),
        "tiff half": tif[: len(tif) // 3],
        **dicom_bodies(rng),
    }


def dicom_bodies(rng: np.random.Generator) -> dict[str, bytes]:
    from pydicom import encaps, uid
    from pydicom.dataset import FileDataset, FileMetaDataset

    def build(change: Any = None, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, uid.UltrasoundImageStorage
        meta.MediaStorageSOPInstanceUID = "1.2.3"
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.PatientName, data.PatientID = SECRET, "ID-4711"
        data.Rows, data.Columns, data.SamplesPerPixel, data.PlanarConfiguration = 40, 40, 3, 0
        data.PhotometricInterpretation = "RGB"
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.PixelData = bytes(4800)
        data["PixelData"].VR = "OB"
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if change:
                change(data)
            data.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    def setting(**values: Any) -> bytes:
        return build(lambda data: [setattr(data, name, value) for name, value in values.items()])

    def garbage(data: Any) -> None:
        data.PixelData = encaps.encapsulate([rng.bytes(400)])
        data["PixelData"].is_undefined_length = True

    good = build()
    lengths = good.replace(struct.pack("<I", 4800), struct.pack("<I", 2**31 - 2))
    # Sequences in sequences, 5,000 deep, none of them closed: (0008,2112) SQ and an item, of undefined length.
    level = b"\x08\0\x12\x21SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    deep = good.replace(b"\x10\0\x10\0PN", level * 5000 + b"\x10\0\x10\0PN")
    name = good.replace(b"PN" + struct.pack("<H", 8), b"PN" + struct.pack("<H", 60000))
    return {
        "dicom preamble": bytes(128) + b"DICM",
        "dicom noise": bytes(128) + b"DICM" + rng.bytes(900),
        "dicom no pixels": build(lambda data: data.pop("PixelData")),
        "dicom few pixels": setting(PixelData=bytes(100)),
        "dicom huge": setting(Rows=60000, Columns=60000),
        "dicom rows 0": setting(Rows=0),
        "dicom 7 bits": setting(BitsAllocated=7),
        "dicom 9 samples": setting(SamplesPerPixel=9),
        "dicom many frames": setting(NumberOfFrames=999_999),
        "dicom 500 frames": setting(NumberOfFrames=500),
        "dicom photometric": setting(PhotometricInterpretation=SECRET),
        "dicom palette": setting(PhotometricInterpretation="PALETTE COLOR", SamplesPerPixel=1),
        "dicom planes": setting(PlanarConfiguration=7),
        "dicom no photometric": build(lambda data: data.pop("PhotometricInterpretation")),
        "dicom no rows": build(lambda data: data.pop("Rows")),
        "dicom half": good[: len(good) // 2],
        "dicom wrong length": lengths,
        "dicom wrong name length": name,
        "dicom deep": deep,
        "dicom jpeg noise": build(garbage, uid.JPEGBaseline8Bit),
        "dicom jpeg 2000 noise": build(garbage, uid.JPEG2000),
        "dicom rle noise": build(garbage, uid.RLELossless),
        "dicom lossless noise": build(garbage, uid.JPEGLosslessSV1),
        "dicom jpeg-ls noise": build(garbage, uid.JPEGLSLossless),
        "dicom hevc": build(garbage, uid.HEVCMP51),
    }


BODIES = bodies()
PLACES = "|".join(re.escape(str(place)) for place in (ROOT, Path.home(), tempfile.gettempdir()))
LEAK = re.compile(rf"Traceback|File \"|\.py|{PLACES}|/usr/|/etc/|Jane|4711|0x[0-9a-f]{{6}}")


def refused(response: httpx.Response) -> None:
    """A clear 4xx: one sentence in JSON, no detail of the machine or the patient."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    body = response.json()
    assert set(body) - {"frames"} == {"error"}
    assert body["error"].endswith((".", "…"))
    assert len(body["error"]) < 200
    assert not LEAK.search(response.text), response.text


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


def raw(running: Running, data: bytes, *, wait: float = PATIENCE) -> bytes:
    """Bytes on the wire, and the head of what comes back."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=wait) as connection:
        connection.sendall(data)
        answer = b""
        while b"\r\n\r\n" not in answer and (block := connection.recv(65536)):
            answer += block
        return answer


HEAD = (
    b"POST /v1/predict HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
    b"content-type: application/octet-stream\r\n"
)


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


def test_a_body_that_grows_over_the_limit(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(100_000)

    refused(client.post("/v1/predict", content=endless(), headers=OCTETS))


def test_clients_that_vanish(running: Running, client: httpx.Client) -> None:
    for size in (0, 10, 1000):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(HEAD + b"content-length: 100000\r\n\r\n" + GOOD[:size])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert client.post("/v1/predict", content=GOOD, headers=OCTETS).status_code == 200


@pytest.mark.parametrize("tail", [zipped(), b"<html><script>alert(1)</script>", b"\0" * 1000])
def test_polyglots_are_images_and_nothing_else(tail: bytes, client: httpx.Client) -> None:
    response = client.post("/v1/predict?preview=1", content=GOOD + tail, headers=OCTETS)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert b"script" not in response.content


# --- load, back-pressure, stop ----------------------------------------------------------------------


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


def start(bundle: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sonoedge.edge_runtime", "serve", "--bundle", str(bundle), "--port", "0", *options],
        stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"open (http\S+)", line):
            return process, found[1]
    raise AssertionError(f"no address; exit code {process.wait()}")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_command_answers_and_stops(float_bundle: Path) -> None:
    process, url = start(float_bundle)
    assert process.stderr is not None

    def page() -> str:
        # The address is printed before the server listens.
        assert process.poll() is None
        try:
            return httpx.get(url, timeout=PATIENCE).text
        except httpx.ConnectError:
            return ""

    until(lambda: "SonoEdge" in page())
    assert httpx.post(f"{url}v1/predict", files={"image": GOOD}, timeout=PATIENCE).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE) == 0
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_a_damaged_bundle_ends_the_command(float_bundle: Path, tmp_path: Path, sonoedge: Any) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(float_bundle, folder)
    with (folder / "golden.npz").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff\0\xff")
    result = sonoedge("serve", "--bundle", folder, "--port", 0)
    assert result.code == 4
    assert "golden.npz has changed" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "--port is 0 to 65535"), (["--workers", "0"], "--workers at least 1"),
        (["--token", "short"], "at least 8 characters"), (["--certificate", "x.pem"], "belong together"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: list[str], message: str, float_bundle: Path, sonoedge: Any) -> None:
    result = sonoedge("serve", "--bundle", float_bundle, *options)
    assert result.code == 2
    assert message in result.err


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


# --- live frames ----------------------------------------------------------------------


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


CLOSED_THEN_TERMINATED = """
import gc, os, signal, sys
import numpy as np
from sonoedge.edge_runtime.model.classifier import Classifier

def stop(*_):
    print("clean")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
classifier = Classifier(sys.argv[1], "openvino-fp32")
classifier.predict(np.zeros((50, 50, 3), np.uint8))
del classifier
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_sigterm_after_the_last_openvino_model_was_closed(float_bundle: Path) -> None:
    """OpenVINO unloaded its plugin, but not its hook for SIGTERM: the process crashed."""
    result = subprocess.run(
        [sys.executable, "-c", CLOSED_THEN_TERMINATED, str(float_bundle)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (result.returncode, result.stdout) == (0, "clean\n")
