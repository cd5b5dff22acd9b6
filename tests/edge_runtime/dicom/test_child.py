"""The child process that decodes DICOM frames: its time, its death, its answer."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from sonoedge.edge_runtime.dicom import child as dicom_child
from sonoedge.edge_runtime.dicom.read import read_dicom
from sonoedge.edge_runtime.errors import ImageError

pydicom = pytest.importorskip("pydicom")
from pydicom import uid  # noqa: E402

from tests.helpers.dicoms import dicom, gdcm_transcoded, picture, saved  # noqa: E402


def jpeg_ls_loop() -> bytes:
    return gdcm_transcoded(saved(dicom([picture(20 * i) for i in range(3)], "RGB")), uid.JPEGLSLossless)


def test_the_time_of_whoever_takes_the_frames_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inference between two frames may take longer than a frame may: no timer runs meanwhile."""
    running: list[threading.Timer] = []

    class Watched(threading.Timer):
        def start(self) -> None:
            running.append(self)
            super().start()

        def cancel(self) -> None:
            running.remove(self)
            super().cancel()

    monkeypatch.setattr(threading, "Timer", Watched)
    shown = 0
    for frame, expected in zip(read_dicom(jpeg_ls_loop()), (picture(20 * i) for i in range(3)), strict=True):
        np.testing.assert_array_equal(frame, expected)
        assert running == []
        shown += 1
    assert shown == 3


def _child_runs(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(dicom_child, "python_call", lambda *_: [sys.executable, "-c", code])


def test_a_child_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    _child_runs(monkeypatch, "import threading; threading.Event().wait()")
    monkeypatch.setattr(dicom_child, "START_SECONDS", 0.05)
    with pytest.raises(ImageError, match="without a readable image"):
        next(iter(read_dicom(jpeg_ls_loop())))


def test_a_child_cannot_make_us_read_more_than_the_header_says(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.stdin.buffer.read(); sys.stdout.buffer.write(b'\\xff\\xff\\0\\0' * 2 + bytes(1 << 20))"
    _child_runs(monkeypatch, code)
    with pytest.raises(ImageError, match="without a readable image"):
        next(iter(read_dicom(jpeg_ls_loop())))
