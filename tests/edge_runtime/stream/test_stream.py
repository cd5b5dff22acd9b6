"""Frames from everywhere, the temporal filter, what a stream writes, and its bad inputs."""

from __future__ import annotations

import io
import json
import math
import re
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sonoedge.edge_runtime.dicom.read import read_dicom
from sonoedge.edge_runtime.dicom.secondary_capture import secondary_capture
from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.imaging.image import find_images, read_image
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.stream.frames import Frame, Source, newest, open_camera, open_source, paced
from sonoedge.edge_runtime.stream.pipeline import FrameStream
from sonoedge.edge_runtime.stream.recording import Recorder
from sonoedge.edge_runtime.stream.smoothing import Smoother, sigmoid
from tests.helpers.stations import until


def picture(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(0, 200, (height, width, 1)).astype(np.uint8), 3, axis=2)


PICTURES = [picture(i) for i in range(6)]


# --- the filter ----------------------------------------------------------------------


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30), st.floats(0.05, 2.0), st.floats(0.01, 0.5))
def test_the_filter_stays_between_its_inputs(logits: list[float], tau: float, pause: float) -> None:
    smoother = Smoother(tau)
    for index, logit in enumerate(logits):
        value, band = smoother.add(logit, index * pause)
        seen = [sigmoid(x) for x in logits[: index + 1]]
        assert min(seen) - 1e-12 <= value <= max(seen) + 1e-12
        assert (band is None) == (index == 0 or pause > 3 * tau)


@pytest.mark.parametrize("steps", [1, 4, 50])
def test_a_step_is_followed_in_the_same_time_at_any_frame_rate(steps: int) -> None:
    smoother = Smoother(0.5)
    smoother.add(0.0, 0.0)
    for index in range(1, steps + 1):
        value, _ = smoother.add(2.0, 0.5 * index / steps)
    assert math.log(value / (1 - value)) == pytest.approx(2 * (1 - math.exp(-1)), abs=1e-9)


def test_a_long_pause_starts_afresh_and_zero_switches_off() -> None:
    smoother = Smoother(0.5)
    smoother.add(5.0, 0.0)
    assert smoother.add(-5.0, 100.0) == (sigmoid(-5.0), None)
    off = Smoother(0.0)
    off.add(5.0, 0.0)
    assert off.add(-5.0, 0.01)[0] == sigmoid(-5.0)


@pytest.mark.parametrize("logit", [-1e9, -800.0, 0.0, 800.0, 1e9])
def test_sigmoid_does_not_overflow(logit: float) -> None:
    assert 0.0 <= sigmoid(logit) <= 1.0


# --- sources ----------------------------------------------------------------------


def write_source(kind: str, folder: Path) -> Path:
    """`PICTURES` as a folder, GIF, TIFF, DICOM cine, video, or lossless JPEG cine."""
    images = [Image.fromarray(p) for p in PICTURES]
    path = folder / f"clip.{kind}"
    if kind == "folder":
        path.mkdir()
        for index, image in enumerate(images):
            image.save(path / f"{index}.png")
    elif kind in {"gif", "tif"}:
        options = {"duration": 50} if kind == "gif" else {}
        images[0].save(path, save_all=True, append_images=images[1:], **options)
    elif kind == "dcm":
        pytest.importorskip("pydicom")
        path.write_bytes(secondary_capture(PICTURES, None, text="", deidentify=True))
    else:
        pytest.importorskip("av")
        with Recorder(path, frame_ms=50) as recorder:
            for frame in PICTURES:
                recorder.add(frame)
    return path


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


# --- live: newest wins ----------------------------------------------------------------------


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


# --- the stream ----------------------------------------------------------------------


def test_stream_answers_equal_single_answers(float_bundle: Path, phantoms: Path) -> None:
    classifier = Classifier(float_bundle, "tflite-fp32", threads=1)
    paths = find_images(phantoms)
    results = list(FrameStream(classifier, open_source(str(phantoms)), smooth_seconds=0))
    assert len(results) == len(paths)
    for path, result in zip(paths, results, strict=True):
        assert result.answer.probability == classifier.predict(read_image(path)).probability
        assert result.smoothed == pytest.approx(result.answer.probability, abs=1e-6)
        latency = result.answer.latency_ms
        assert result.total_ms >= latency["invoke"] + latency["head"] + latency["resize"]


def test_the_crop_is_found_once_and_kept(float_bundle: Path, tmp_path: Path) -> None:
    for index in range(3):
        screen = np.zeros((300, 400, 3), np.uint8)
        screen[60:260, 80 + index : 330] = picture(index, 200, 250 - index) + 30
        Image.fromarray(screen).save(tmp_path / f"{index}.png")
    stream = FrameStream(Classifier(float_bundle, "tflite-fp32"), open_source(str(tmp_path)), crop="auto")
    shapes = {result.image.shape for result in stream}
    assert len(shapes) == 1
    assert stream.region is not None
    assert abs(stream.region.left - 80) < 4


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
