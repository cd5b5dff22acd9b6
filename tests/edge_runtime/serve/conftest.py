"""The station that most tests of the server ask, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.stations import PATIENCE, Running, run_server


@pytest.fixture(scope="module")
def running(float_bundle: Path) -> Iterator[Running]:
    with run_server(float_bundle) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=PATIENCE) as opened:
        yield opened
