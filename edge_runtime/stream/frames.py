"""Sources of frames: a folder, a clip, a DICOM cine loop, a camera. Each frame has its time in seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from PIL import Image, UnidentifiedImageError

from sonoedge.edge_runtime.decode_limits import DECODE_ERRORS, MAX_PIXELS
from sonoedge.edge_runtime.dicom.read import DicomImage, read_dicom
from sonoedge.edge_runtime.errors import DataError, ImageError, MissingExtraError, UsageError
from sonoedge.edge_runtime.imaging.image import find_images, is_dicom, read_image, to_rgb
from sonoedge.edge_runtime.types import Region, UInt8Image

CAMERA = "camera"
_CAMERA_FORMATS = {"linux": ("v4l2", "/dev/video0"), "darwin": ("avfoundation", "0"), "win32": ("dshow", "video=0")}
_ANIMATIONS = ("GIF", "TIFF", "PNG", "WEBP")


@dataclass(frozen=True)
class Frame:
    """One frame: ``number`` from 1, ``seconds`` since the start, and the picture or an error in its place."""

    number: int
    seconds: float
    image: UInt8Image | None
    error: str = ""


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        frames: returns an iterator over the frames.
        count: number of frames; None if unknown beforehand.
        live: the source does not wait: frames that nobody takes in time are lost.
        dicom: the DICOM object of the source, if any.
        region: the scan area that the source states, if any.
    """

    frames: Callable[[], Iterator[Frame]]
    count: int | None = None
    live: bool = False
    dicom: DicomImage | None = None
    region: Region | None = field(default=None)


def open_source(text: str, *, fps: float = 25.0) -> Source:
    """Open ``camera``, ``camera:DEVICE``, a folder of images, or a file.

    Args:
        text: as given on the command line.
        fps: frames a second of a source that does not say.

    Raises:
        DataError: the source does not exist, has no frames, or is no readable clip.
        MissingExtraError: videos and cameras need PyAV, DICOM needs pydicom.
    """
    if text == CAMERA or text.startswith(CAMERA + ":"):
        kind, device = _CAMERA_FORMATS.get(sys.platform, _CAMERA_FORMATS["linux"])
        return open_camera(text.partition(":")[2] or device, kind)
    path = Path(text)
    if path.is_dir():
        return _folder(path, fps)
    if not path.is_file():
        raise DataError(f"No such source: {text}. Give a folder, a file, camera, or camera:DEVICE.")
    with path.open("rb") as file:
        start = file.read(132)
    if is_dicom(start):
        return _dicom(path, fps)
    try:
        with Image.open(path, formats=(*_ANIMATIONS, "JPEG", "BMP")) as image:
            many = getattr(image, "n_frames", 1) > 1
    except UnidentifiedImageError:
        return _video(path)
    except DECODE_ERRORS as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return _animation(path, fps) if many else _stills([path], fps)


def open_camera(device: str, kind: str) -> Source:
    """A camera or capture card through FFmpeg's device ``kind`` (``v4l2``, ``avfoundation``, ``dshow``).

    The camera is opened with the first frame; then a camera that fails raises `DataError`.

    Raises:
        MissingExtraError: PyAV is not installed.
    """
    av = _av()

    def frames() -> Iterator[Frame]:
        try:
            container = av.open(device, format=kind)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise DataError(f"The camera {device} cannot be opened ({kind}): {error}") from error
        start, number = perf_counter(), 0
        try:
            with container:
                for packet in container.demux(video=0):
                    try:
                        pictures = packet.decode()
                    except av.error.InvalidDataError as error:
                        # Cameras often send a broken frame at the start.
                        number += 1
                        text = f"frame {number} cannot be decoded: {error.strerror}"
                        yield Frame(number, perf_counter() - start, None, text)
                        continue
                    for picture in pictures:
                        number += 1
                        yield Frame(number, perf_counter() - start, picture.to_ndarray(format="rgb24"))
        except (av.error.FFmpegError, OSError) as error:
            reason = error.strerror or type(error).__name__
            raise DataError(
                f"The camera {device} stopped after {number} frames ({reason}). Is it plugged in?"
            ) from error

    return Source(frames, live=True)


def newest(source: Source, dropped: Callable[[int], None]) -> Iterator[Frame]:
    """Frames of a live source, read by a thread of its own; only the newest frame waits to be taken.

    Memory therefore holds two frames at most, and an answer is never older than one inference. ``dropped`` is
    called with 1 for every frame that is overtaken.
    """
    slot: list[Frame] = []
    arrived = threading.Condition()
    ended: list[BaseException | None] = []
    stop = threading.Event()

    def read() -> None:
        problem: BaseException | None = None
        try:
            for frame in source.frames():
                with arrived:
                    if slot:
                        dropped(1)
                    slot[:] = [frame]
                    arrived.notify()
                if stop.is_set():
                    break
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that takes frames
            problem = error
        with arrived:
            ended.append(problem)
            arrived.notify()

    thread = threading.Thread(target=read, name="frames", daemon=True)
    thread.start()
    try:
        while True:
            with arrived:
                arrived.wait_for(lambda: slot or ended)
                if not slot:
                    break
                frame = slot.pop()
            yield frame
        if ended[0] is not None:
            raise ended[0]
    finally:
        stop.set()
        thread.join(timeout=2)


def paced(source: Source) -> Source:
    """A recorded source that plays at its own speed, as if it were live."""

    def frames() -> Iterator[Frame]:
        start = perf_counter()
        for frame in source.frames():
            if (wait := frame.seconds - (perf_counter() - start)) > 0:
                sleep(wait)
            yield frame

    return Source(frames, source.count, live=True, dicom=source.dicom, region=source.region)


def _folder(path: Path, fps: float) -> Source:
    paths = find_images(path)
    if not paths:
        raise DataError(f"No images in {path}.")
    return _stills(paths, fps)


def _stills(paths: list[Path], fps: float) -> Source:
    def frames() -> Iterator[Frame]:
        for index, path in enumerate(paths):
            yield _read(index, index / fps, lambda path=path: read_image(path))  # type: ignore[misc]

    return Source(frames, count=len(paths))


def _dicom(path: Path, fps: float) -> Source:
    dicom = read_dicom(path.read_bytes(), path.name)
    interval = dicom.frame_ms / 1e3 if dicom.frame_ms else 1.0 / fps

    def frames() -> Iterator[Frame]:
        # If decoding needs a child process, one child decodes the whole loop. Else each frame is decoded by itself,
        # so that a damaged frame does not stop the others.
        pictures = iter(dicom) if dicom.isolated else None

        def decode(index: int) -> UInt8Image:
            picture = next(pictures, None) if pictures else dicom.frame(index)
            if picture is None:
                raise ImageError(f"{path.name}: frame {index + 1} comes after one that could not be decoded.")
            return picture

        for index in range(dicom.frames):
            yield _read(index, index * interval, lambda index=index: decode(index))  # type: ignore[misc]

    return Source(frames, count=dicom.frames, dicom=dicom, region=dicom.region)


def _animation(path: Path, fps: float) -> Source:
    with Image.open(path, formats=_ANIMATIONS) as image:
        count, size = getattr(image, "n_frames", 1), image.width * image.height
    if size > MAX_PIXELS:
        raise ImageError(f"{path.name} is too large: at most {MAX_PIXELS:,} pixels are accepted.")

    def frames() -> Iterator[Frame]:
        seconds = 0.0
        with Image.open(path, formats=_ANIMATIONS) as image:

            def decode(index: int) -> UInt8Image:
                image.seek(index)
                return to_rgb(image.copy())

            for index in range(count):
                yield _read(index, seconds, lambda index=index: decode(index))  # type: ignore[misc]
                seconds += (float(image.info.get("duration") or 0) / 1e3) or 1.0 / fps

    return Source(frames, count=count)


def _video(path: Path) -> Source:
    av = _av()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            count = stream.frames or None
            if stream.width * stream.height > MAX_PIXELS:
                raise ImageError(f"{path.name} is too large: at most {MAX_PIXELS:,} pixels are accepted.")
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise DataError(f"{path} is not a readable image, clip or DICOM file.") from error

    def frames() -> Iterator[Frame]:
        try:
            with av.open(str(path)) as container:
                for number, frame in enumerate(container.decode(video=0), start=1):
                    yield Frame(number, float(frame.time or 0.0), frame.to_ndarray(format="rgb24"))
        except av.error.FFmpegError as error:
            raise DataError(f"{path} is damaged: {error.strerror}") from error

    return Source(frames, count=count)


def _read(index: int, seconds: float, decode: Callable[[], UInt8Image]) -> Frame:
    try:
        return Frame(index + 1, seconds, decode())
    except ImageError as error:
        return Frame(index + 1, seconds, None, str(error))
    except DECODE_ERRORS as error:
        return Frame(index + 1, seconds, None, f"frame {index + 1} cannot be decoded: {error}")


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", "video") from error
    return av


def check_fps(fps: float) -> float:
    """Return ``fps`` if it is from 0.1 to 1000 frames a second.

    Raises:
        UsageError: it is not.
    """
    if not 0.1 <= fps <= 1000:
        raise UsageError(f"--fps is 0.1 to 1000. Received: {fps:g}.")
    return fps
