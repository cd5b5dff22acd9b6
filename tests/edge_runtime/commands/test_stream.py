"""``sonoedge stream``: what it writes, and its bad inputs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from sonoedge.edge_runtime.dicom.read import read_dicom
from sonoedge.edge_runtime.dicom.secondary_capture import secondary_capture
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.stream.frames import open_source
from tests.helpers.pictures import PICTURES, write_source


def test_lines_annotations_and_summary(float_bundle: Path, tmp_path: Path, sonoedge: Any) -> None:
    clip = write_source("gif", tmp_path)
    result = sonoedge(
        "stream", "--bundle", float_bundle, "--source", clip, "--json", "--annotated", tmp_path / "out"
    )
    assert result.code == 0
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["frame"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {"smoothed", "verdict", "reasons", "gate", "dropped", "total_ms", "band", "recent"} <= set(lines[0])
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    assert "6 frames answered, 0 dropped" in result.err


@pytest.mark.parametrize("kind", ["gif", "mp4", "dcm"])
def test_annotated_clips_can_be_streamed_again(
    kind: str, float_bundle: Path, tmp_path: Path, sonoedge: Any
) -> None:
    pytest.importorskip({"gif": "PIL", "mp4": "av", "dcm": "pydicom"}[kind])
    clip, out = write_source("folder", tmp_path), tmp_path / f"annotated.{kind}"
    result = sonoedge("stream", "--bundle", float_bundle, "--source", clip, "--annotated", out, "--max-frames", 4)
    assert result.code == 0, result.err
    frames = list(open_source(str(out)).frames())
    assert len(frames) == 4
    assert frames[0].image is not None
    assert frames[0].image.shape == (96, 80, 3)
    assert not list(tmp_path.glob(".*partial*"))


def test_dicom_cine_to_deidentified_capture(float_bundle: Path, tmp_path: Path, sonoedge: Any) -> None:
    pydicom = pytest.importorskip("pydicom")
    cine, out = tmp_path / "cine.dcm", tmp_path / "result.dcm"
    source = pydicom.dcmread(io.BytesIO(secondary_capture(PICTURES, None, text="", deidentify=False)))
    source.PatientName, source.FrameTime = "Doe^Jane", "20.0"
    source.save_as(cine)
    result = sonoedge(
        "stream", "--bundle", float_bundle, "--source", cine, "--annotated", out, "--deidentify", "--json"
    )
    assert result.code == 0, result.err
    assert json.loads(result.out.splitlines()[-1])["seconds"] == pytest.approx(0.1)
    assert b"Jane" not in out.read_bytes()
    assert "Jane" not in result.out + result.err
    back = read_dicom(out.read_bytes())
    assert (back.frames, back.frame_ms) == (6, 20.0)
    comments = pydicom.dcmread(out).ImageComments
    assert "highest smoothed probability" in comments and "Not a medical device" in comments
    kept = sonoedge("stream", "--bundle", float_bundle, "--source", cine, "--annotated", out)
    assert kept.code == 0
    assert pydicom.dcmread(out).PatientName == "Doe^Jane"


def test_crop_picture(float_bundle: Path, tmp_path: Path, sonoedge: Any) -> None:
    clip, cut = write_source("folder", tmp_path), tmp_path / "cut.png"
    options = ["--crop", "10,10,60,50", "--crop-picture", cut, "--quiet"]
    assert sonoedge("stream", "--bundle", float_bundle, "--source", clip, *options).code == 0
    drawn = read_image(cut)
    assert drawn.shape == PICTURES[0].shape
    assert drawn[10, 30].tolist() == [0, 255, 0]


def test_unreadable_frames_are_an_exit_code(float_bundle: Path, tmp_path: Path, sonoedge: Any) -> None:
    folder = write_source("folder", tmp_path)
    (folder / "0.png").write_bytes(b"broken")
    result = sonoedge("stream", "--bundle", float_bundle, "--source", folder)
    assert result.code == 3
    assert "5 frames answered, 0 dropped, 1 unreadable" in result.err
    for path in folder.iterdir():
        path.write_bytes(b"broken")
    result = sonoedge("stream", "--bundle", float_bundle, "--source", folder)
    assert result.code == 3
    assert "No readable frame" in result.err


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--source", "nowhere"], 3), (["--source", ".", "--crop", "x"], 2), (["--source", ".", "--fps", "0"], 2),
        (["--source", ".", "--smooth", "-1"], 2), (["--source", ".", "--max-frames", "0"], 2),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: list[str], code: int, float_bundle: Path, sonoedge: Any) -> None:
    assert sonoedge("stream", "--bundle", float_bundle, *options).code == code


def test_annotated_output_of_an_unknown_kind(float_bundle: Path, tmp_path: Path, sonoedge: Any) -> None:
    clip = write_source("folder", tmp_path)
    result = sonoedge("stream", "--bundle", float_bundle, "--source", clip, "--annotated", tmp_path / "x.avi")
    assert result.code == 2
    assert ".gif, .mp4, .dcm or a folder" in result.err


@pytest.mark.parametrize("kind", ["gif", "dcm"])
def test_a_full_recording_is_kept(
    kind: str, float_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sonoedge: Any
) -> None:
    pytest.importorskip({"gif": "PIL", "dcm": "pydicom"}[kind])
    monkeypatch.setattr("sonoedge.edge_runtime.stream.recording.MAX_MEMORY", 3 * (96 * 80 * 3) + 10)
    clip, out = write_source("folder", tmp_path), tmp_path / f"x.{kind}"
    result = sonoedge("stream", "--bundle", float_bundle, "--source", clip, "--annotated", out)
    assert result.code == 3
    assert f"error: x.{kind} is full: it ends with frame 3" in result.err
    assert "3 frames answered" in result.err
    assert len(list(open_source(str(out)).frames())) == 3
