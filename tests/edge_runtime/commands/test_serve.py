"""``sonoedge serve``: it answers, it stops, and what it refuses."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.places import ROOT
from tests.helpers.stations import GOOD, PATIENCE, until


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
