"""Decoding in a child process: GDCM crashes on damaged lossless JPEG, and a crash must not take the server along.

Only JPEG Lossless and JPEG-LS take this way; the other decoders (pydicom's own, Pillow) survive damaged files.
The child gets the file through a pipe, has limits on memory and time, and writes plain pixels back.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from edge_runtime.errors import ImageError
from edge_runtime.image import UInt8Image
from edge_runtime.limits import limit_process

FRAME_SECONDS = 20
_HEADER = struct.Struct("<II")  # height, width of the frame that follows
_CODE = (
    "import sys; sys.path.insert(0, {root!r}); from edge_runtime.dicom_child import child; child({start}, {stop})"
)


def decode_isolated(data: bytes, start: int, stop: int, name: str) -> Iterator[UInt8Image]:
    """Frames ``start`` to ``stop`` (excluded) of a DICOM file, one after the other: uint8 (height, width, 3).

    Raises:
        ImageError: the child gave up, crashed, or took too long.
    """
    code = _CODE.format(root=str(Path(__file__).parents[1]), start=start, stop=stop)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(FRAME_SECONDS + 2.0 * (stop - start), process.kill)
        timer.start()
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(data)
                process.stdin.close()
            for _ in range(start, stop):
                header = process.stdout.read(_HEADER.size)
                if len(header) < _HEADER.size:
                    raise ImageError(f"{name} is a DICOM file without a readable image (lossless JPEG damaged).")
                height, width = _HEADER.unpack(header)
                pixels = process.stdout.read(3 * height * width)
                if len(pixels) < 3 * height * width:
                    raise ImageError(f"{name} is a DICOM file without a readable image (lossless JPEG damaged).")
                yield np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
        finally:
            timer.cancel()
            process.kill()
            with suppress(OSError):
                process.stdin.close()


def child(start: int, stop: int) -> None:
    """What the child process runs: DICOM from stdin, frames to stdout."""
    limit_process()
    from edge_runtime.dicom import read_dicom

    opened = read_dicom(sys.stdin.buffer.read(), isolate=False)
    for index in range(start, stop):
        frame = opened.frame(index)
        sys.stdout.buffer.write(_HEADER.pack(*frame.shape[:2]) + np.ascontiguousarray(frame).tobytes())
        sys.stdout.buffer.flush()
