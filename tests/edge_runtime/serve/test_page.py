"""The page that the station serves: its headers, and that it works without any other host."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import httpx

from sonoedge.edge_runtime.serve.app import ASSETS, Settings
from tests.helpers.stations import OCTETS, run_server


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


def page_files() -> list[Path]:
    return [path for path in ASSETS.rglob("*") if path.is_file()]


def test_every_module_of_the_page_is_kept_offline() -> None:
    worker = (ASSETS / "sw.js").read_text()
    for path in page_files():
        name = path.relative_to(ASSETS).as_posix()
        assert name in {"sw.js", "index.html"} or f'"{name}"' in worker, name


def test_the_page_names_no_other_host() -> None:
    for path in page_files():
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
