"""Frames from files and cameras; live, the newest wins."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.stream.frames import Frame, Source, newest, open_camera, open_source, paced
from tests.helpers.pictures import PICTURES, write_source
from tests.helpers.stations import until


@pytest.mark.parametrize(
    ("kind", "interval", "exact"),
    [("folder", 0.1, True), ("gif", 0.05, True), ("tif", 0.1, True), ("dcm", 0.04, True), ("mp4", 0.05, False)],
)
def test_every_frame_of_a_recorded_source(kind: str, interval: float, exact: bool, tmp_path: Path) -> None:
    source = open_source(str(write_source(kind, tmp_path)), fps=10)
    assert (source.count, source.live) == (6, False)
    frames = list(source.frames())
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 5, 6]
    for index, frame in enumerate(frames):
        assert frame.seconds == pytest.approx(index * interval, abs=1e-3)
        assert frame.image is not None
        difference = np.abs(frame.image.astype(int) - PICTURES[index])
        assert difference.max() == 0 if exact else difference.mean() < 25


def test_a_single_image_is_one_frame(tmp_path: Path) -> None:
    Image.fromarray(PICTURES[0]).save(tmp_path / "x.png")
    assert len(list(open_source(str(tmp_path / "x.png")).frames())) == 1


def test_unreadable_frames_are_errors_in_place(tmp_path: Path) -> None:
    folder = write_source("folder", tmp_path)
    (folder / "2.png").write_bytes(b"broken")
    frames = list(open_source(str(folder)).frames())
    assert [frame.image is None for frame in frames] == [False, False, True, False, False, False]
    assert "not a PNG" in frames[2].error


def test_a_camera_through_ffmpeg() -> None:
    pytest.importorskip("av")
    source = open_camera("testsrc=size=160x120:rate=50:duration=0.2", "lavfi")
    assert source.live
    frames = list(source.frames())
    assert len(frames) == 10
    assert frames[0].image is not None
    assert frames[0].image.shape == (120, 160, 3)


class Cable:
    """An opened camera of FFmpeg that is pulled out, or sends a broken frame, instead of its fifth packet."""

    def __init__(self, container: Any, error: Exception) -> None:
        self._container, self._error = container, error

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def demux(self, **streams: int) -> Iterator[Any]:
        import av

        for number, packet in enumerate(self._container.demux(**streams)):
            if number == 4 and isinstance(self._error, av.error.InvalidDataError):
                yield Broken(self._error)
            elif number == 4:
                raise self._error
            else:
                yield packet


class Broken:
    """A packet that cannot be decoded."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def decode(self) -> None:
        raise self._error


def camera(monkeypatch: pytest.MonkeyPatch, error: Exception) -> Source:
    import av

    opened = av.open

    def open_cable(*arguments: Any, **options: Any) -> Any:
        container = opened(*arguments, **options)
        return Cable(container, error) if options.get("format") == "lavfi" else container

    monkeypatch.setattr(av, "open", open_cable)
    return open_camera("testsrc=size=160x120:rate=50:duration=0.2", "lavfi")


def test_a_camera_that_is_unplugged(
    monkeypatch: pytest.MonkeyPatch, float_bundle: Path, tmp_path: Path, sonoedge: Any
) -> None:
    av = pytest.importorskip("av")
    source = camera(monkeypatch, av.error.FFmpegError(19, "No such device"))
    # Every frame, so that the test knows how many there are.
    monkeypatch.setattr("sonoedge.edge_runtime.commands.stream.open_source", lambda *_, **__: Source(source.frames))
    out = tmp_path / "until_then.mp4"
    result = sonoedge("stream", "--bundle", float_bundle, "--source", "camera", "--json", "--annotated", out)
    assert result.code == 3
    assert len(result.out.splitlines()) == 4
    assert re.search(r"^error: The camera .* stopped after 4 frames \(No such device\)", result.err, re.M)
    monkeypatch.undo()
    assert len(list(open_source(str(out)).frames())) == 4


def test_a_broken_frame_of_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    frames = list(camera(monkeypatch, av.error.InvalidDataError(1, "broken")).frames())
    assert [frame.number for frame in frames] == list(range(1, 11))
    assert [frame.number for frame in frames if frame.image is None] == [5]


def test_no_camera() -> None:
    pytest.importorskip("av")
    with pytest.raises(DataError, match="cannot be opened"):
        next(open_camera("/dev/no-such-camera", "v4l2").frames())


@pytest.mark.parametrize("name", ["missing", "empty folder", "text.txt", "noise.mp4", "cut.dcm"])
def test_sources_that_are_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "empty folder":
        path.mkdir()
    elif name == "text.txt":
        path.write_text("no clip")
    elif name == "noise.mp4":
        path.write_bytes(np.random.default_rng(0).bytes(4000))
    elif name == "cut.dcm":
        path.write_bytes(bytes(128) + b"DICM" + bytes(20))
    with pytest.raises(DataError):
        open_source(str(path))


def test_a_slow_consumer_gets_the_newest_and_the_rest_is_counted() -> None:
    permits, asked = threading.Semaphore(0), threading.Semaphore(0)

    def frames() -> Iterator[Frame]:
        for number in range(1, 61):
            asked.release()
            permits.acquire()
            yield Frame(number, float(number), PICTURES[0])
        asked.release()

    def shown(count: int) -> None:
        """So many frames more come by, and the camera waits before the next."""
        permits.release(count)
        for _ in range(count):
            asked.acquire()

    dropped: list[int] = []
    taken = newest(Source(frames, live=True), dropped.append)
    permits.release()
    assert next(taken).number == 1
    for _ in range(2):  # it was asked for the first and the second frame
        asked.acquire()
    shown(20)
    assert next(taken).number == 21
    shown(39)
    assert [frame.number for frame in taken] == [60]
    assert sum(dropped) == 19 + 38


def test_an_error_of_the_camera_reaches_the_consumer() -> None:
    def frames() -> Iterator[Frame]:
        yield Frame(1, 0.0, PICTURES[0])
        raise DataError("unplugged")

    with pytest.raises(DataError, match="unplugged"):
        list(newest(Source(frames, live=True), lambda _: None))


def test_leaving_early_ends_the_thread() -> None:
    def frames() -> Iterator[Frame]:
        for number in count(1):
            yield Frame(number, float(number), PICTURES[0])

    taken = newest(Source(frames, live=True), lambda _: None)
    next(taken)
    taken.close()
    until(lambda: not any(thread.name == "frames" for thread in threading.enumerate()))


def test_a_recorded_source_at_its_own_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    waits = []

    def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(seconds)
        now += seconds

    monkeypatch.setattr("sonoedge.edge_runtime.stream.frames.perf_counter", lambda: now)
    monkeypatch.setattr("sonoedge.edge_runtime.stream.frames.sleep", sleep)
    for frame in paced(open_source(str(write_source("folder", tmp_path)), fps=50)).frames():
        assert now >= frame.seconds - 1e-9
        now += 0.03 if frame.number == 3 else 0.0  # too slow once: the next frame does not wait
    assert waits == pytest.approx([0.02, 0.02, 0.01, 0.02])
