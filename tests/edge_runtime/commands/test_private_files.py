"""Whatever a command writes about a patient is as private as the user's umask says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.places import SMALL_BUNDLE

pytest.importorskip("pydicom")
from tests.helpers.dicoms import dicom, picture, saved

BUNDLE = SMALL_BUNDLE
pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such permissions")


@pytest.fixture(autouse=True)
def private() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def readable_by_others(folder: Path) -> list[str]:
    found = sorted(p for p in folder.rglob("*") if p.stat().st_mode & 0o077)
    return [path.relative_to(folder).as_posix() for path in found]


def test_predict_and_explain(tmp_path: Path, sonoedge: Callable) -> None:
    image, out = tmp_path / "image.png", tmp_path / "out"
    Image.fromarray(picture()).save(image)
    common = ["--bundle", BUNDLE, "--artifact", "tflite-fp32", "--ungated", image]
    predict = ["predict", *common, "--explain", out / "heat", "--counters", out / "counters.json"]
    for arguments in (predict, ["explain", *common, "--out", out / "explained"]):
        assert sonoedge(*arguments).code == 0
    assert len([p for p in out.rglob("*") if p.is_file()]) == 9
    assert readable_by_others(out) == []


@pytest.mark.long
@pytest.mark.parametrize("annotated", ["a.gif", "a.mp4", "a.dcm", "frames"])
def test_stream(annotated: str, tmp_path: Path, sonoedge: Callable) -> None:
    for package in ("highdicom", "av"):
        pytest.importorskip(package)
    loop, out = tmp_path / "loop.dcm", tmp_path / "out"
    frames = [picture(20 * i) for i in range(3)]
    loop.write_bytes(saved(dicom(frames, "RGB", FrameTime="40", SeriesInstanceUID="1.2.3")))
    arguments = ["--bundle", BUNDLE, "--artifact", "tflite-fp32", "--source", loop, "--ungated", "--quiet"]
    arguments += ["--annotated", out / annotated, "--crop-picture", out / "crop.png"]
    arguments += ["--report", out / "report.dcm"]
    result = sonoedge("stream", *arguments)
    assert result.code == 0, result.err
    assert (out / annotated).exists() and (out / "report.dcm").exists()
    assert readable_by_others(out) == []
