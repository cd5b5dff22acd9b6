"""Writes annotated frames, each at its own time: GIF, MP4, a DICOM Secondary Capture, or a folder of PNG."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from sonoedge.edge_runtime.dicom.read import DicomImage
from sonoedge.edge_runtime.dicom.secondary_capture import secondary_capture
from sonoedge.edge_runtime.errors import MissingExtraError, UsageError
from sonoedge.edge_runtime.files import write_bytes_atomic
from sonoedge.edge_runtime.types import UInt8Image

MAX_MEMORY = 1 << 30
"""GIF and DICOM are written at the end: the frames kept until then may take this many bytes."""


class Recorder:
    """Takes frames; the whole file appears when the ``with`` block ends.

    Args:
        path: ``.gif``, ``.mp4``, ``.dcm``, or without suffix for a folder of PNG.
        frame_ms: milliseconds for which a frame is shown if `add` gets no time, and the last frame of a GIF.
        source: for ``.dcm``, the object whose patient and study are copied.
        deidentify: for ``.dcm``, copy nothing from ``source``.

    Attributes:
        full: no further frame fits into `MAX_MEMORY`; the recorded frames are written as usual.
        text: for ``.dcm``, the result in words.

    Raises:
        UsageError: another suffix.
        MissingExtraError: MP4 needs PyAV, DICOM needs pydicom.
    """

    def __init__(
        self, path: Path, *, frame_ms: float, source: DicomImage | None = None, deidentify: bool = False
    ) -> None:
        self.path, self._frame_ms, self._source, self._deidentify = path, frame_ms, source, deidentify
        self.kind = path.suffix.lower()
        if self.kind not in {".gif", ".mp4", ".dcm", ""}:
            raise UsageError(f"Annotated output is .gif, .mp4, .dcm or a folder. Received: {path.name}.")
        self.text, self.full = "", False
        self._seconds: list[float] = []
        self._frames: list[UInt8Image] = []
        self._count = 0
        self._shape: tuple[int, ...] | None = None
        self._video: Any = None
        if self.kind == ".mp4":
            self._video = _Video(path, frame_ms)

    def add(self, frame: UInt8Image, seconds: float | None = None) -> None:
        """Add one annotated frame; do not call this once the recording is ``full``.

        Args:
            frame: uint8 (height, width, 3); stretched to the size of the first frame.
            seconds: time at which the frame was shown, rising; None takes ``frame_ms`` after the frame before.
        """
        if seconds is None:
            seconds = self._count * self._frame_ms / 1e3
        if self._shape is None:
            self._shape = frame.shape
        if frame.shape != self._shape:
            size = (self._shape[1], self._shape[0])
            frame = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
        self._count += 1
        if self._video is not None:
            self._video.add(frame, seconds)
        elif self.kind == "":
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, "PNG")
            write_bytes_atomic(self.path / f"frame_{self._count:06d}.png", buffer.getvalue())
        else:
            self._frames.append(frame)
            self._seconds.append(seconds)
            self.full = (self._count + 1) * frame.size > MAX_MEMORY

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._video is not None:
            self._video.close(publish=kind is None and self._count > 0)
        elif kind is None and self._frames:
            if self.kind == ".gif":
                write_bytes_atomic(self.path, _gif(self._frames, self._seconds, self._frame_ms))
            else:
                # Every viewer knows one time for all frames: take the mean, so that the loop keeps its length.
                span = 1e3 * (self._seconds[-1] - self._seconds[0])
                data = secondary_capture(
                    self._frames,
                    self._source,
                    text=self.text,
                    deidentify=self._deidentify,
                    frame_ms=span / (len(self._frames) - 1) if span > 0 else self._frame_ms,
                )
                write_bytes_atomic(self.path, data)


def _gif(frames: list[UInt8Image], seconds: list[float], frame_ms: float) -> bytes:
    """The bytes of a GIF. GIF counts hundredths of a second; viewers slow down frames shorter than two of them."""
    buffer = io.BytesIO()
    first, *rest = (Image.fromarray(frame) for frame in frames)
    ends = [round(100 * (end - seconds[0])) for end in [*seconds, seconds[-1] + frame_ms / 1e3]]
    durations = [10 * max(2, end - start) for start, end in pairwise(ends)]
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    return buffer.getvalue()


class _Video:
    """MPEG-4 through PyAV, written to a temporary file that replaces the target at the end."""

    def __init__(self, path: Path, frame_ms: float) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingExtraError("av", "video") from error
        from fractions import Fraction

        self._av, self._path = av, path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = path.with_name(f".{path.name}.partial")
        self._container = av.open(str(self._partial), "w", format="mp4")
        self._stream = self._container.add_stream("mpeg4", rate=Fraction(1000, max(1, round(frame_ms))))
        self._stream.pix_fmt, self._stream.bit_rate = "yuv420p", 4_000_000
        self._unit = self._stream.codec_context.time_base = Fraction(1, 1000)
        self._first: float | None = None
        self._last = -1

    def add(self, frame: UInt8Image, seconds: float) -> None:
        # The codec needs even sizes.
        height, width = frame.shape[0] & ~1, frame.shape[1] & ~1
        if self._first is None:
            self._stream.width, self._stream.height, self._first = width, height, seconds
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        # Times, not frame numbers: between live frames others were dropped.
        self._last = max(self._last + 1, round(1e3 * (seconds - self._first)))
        picture.pts, picture.time_base = self._last, self._unit
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def close(self, *, publish: bool) -> None:
        if publish:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()
        if publish:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)
