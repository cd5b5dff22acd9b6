"""A station during an update of the device: it goes on with the bundle that it started with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.device.installation import Installation
from sonoedge.edge_runtime.serve.station import AnswerOptions, Station
from tests.helpers.bundles import build, rewrite, set_in
from tests.helpers.places import VECTORS


def install(root: Path, bundle: Path) -> None:
    place = Installation(root)
    with place.locked():
        place.add(load_bundle(bundle), lambda copied: None, keep=2)


@pytest.mark.skipif(sys.platform == "win32", reason="links and locks")
def test_a_running_station_keeps_its_bundle(tmp_path: Path) -> None:
    install(tmp_path / "device", VECTORS / "bundle")
    picture = (VECTORS / "pictures/grey.png").read_bytes()
    station = Station(tmp_path / "device/current", None)
    station.open()
    try:
        before = station.describe(), station.answer(picture, AnswerOptions())["verdict"]
        for name in ("two", "three", "four"):
            build(tmp_path / name)
            rewrite(tmp_path / name, set_in("name", to=name))
            install(tmp_path / "device", tmp_path / name)
        assert (station.describe(), station.answer(picture, AnswerOptions())["verdict"]) == before
        files = [part["path"] for one in before[0]["browser_artifacts"] for part in (one["backbone"], one["head"])]
        assert all((station.bundle.path / name).is_file() for name in files)
    finally:
        station.close()
    build(tmp_path / "five")
    install(tmp_path / "device", tmp_path / "five")
    assert not station.bundle.path.exists()
