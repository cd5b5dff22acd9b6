"""Recordings keep the times of their frames, and leave nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sonoedge.edge_runtime.dicom.read import read_dicom
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.stream.frames import open_source
from sonoedge.edge_runtime.stream.recording import Recorder
from tests.helpers.pictures import PICTURES, picture

TIMES = [0.0, 0.04, 0.2, 0.24, 1.0]


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_recordings_keep_the_times_of_their_frames(kind: str, tmp_path: Path) -> None:
    pytest.importorskip({"gif": "PIL", "mp4": "av"}[kind])
    path = tmp_path / f"x.{kind}"
    with Recorder(path, frame_ms=40) as recorder:
        for index, seconds in enumerate(TIMES):
            recorder.add(PICTURES[index], 7.5 + seconds)
    frames = list(open_source(str(path)).frames())
    assert [frame.seconds for frame in frames] == pytest.approx(TIMES, abs=2e-3)


def test_a_capture_lasts_as_long_as_what_it_shows(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    with Recorder(tmp_path / "x.dcm", frame_ms=40) as recorder:
        for index, seconds in enumerate(TIMES):
            recorder.add(PICTURES[index], seconds)
    assert read_dicom((tmp_path / "x.dcm").read_bytes()).frame_ms == 250.0


def test_frames_of_other_sizes_are_fitted(tmp_path: Path) -> None:
    with Recorder(tmp_path / "x.gif", frame_ms=40) as recorder:
        recorder.add(picture(0))
        recorder.add(picture(1, 30, 30))
    with Image.open(tmp_path / "x.gif") as clip:
        assert (clip.n_frames, clip.size) == (2, (80, 60))


def test_nothing_is_left_of_a_recording_that_failed(tmp_path: Path) -> None:
    for kind in ("gif", "mp4"):
        with pytest.raises(UsageError), Recorder(tmp_path / f"x.{kind}", frame_ms=40) as recorder:
            recorder.add(picture(0))
            raise UsageError("stop")
    assert list(tmp_path.iterdir()) == []
