"""Decoding in a child process: GDCM crashes on damaged lossless JPEG, and the crash must not end the server.

Only JPEG Lossless and JPEG-LS are decoded this way; the other decoders (pydicom's own, Pillow) survive damaged
files. The child gets the file through a pipe, has limits on memory and time, and writes plain pixels back. The time
limit counts only while we wait for a frame, not while a frame is being used.
"""

from __future__ import annotations

import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from sonoedge.edge_runtime.children import child_environment, python_call
from sonoedge.edge_runtime.errors import ImageError
from sonoedge.edge_runtime.types import UInt8Image

FRAME_SECONDS = 20.0
START_SECONDS = 60.0
"""For the first frame: the child starts, reads, and measures a range of values if the header gives none."""
HEADER = struct.Struct("<II")  # height, width of the frame that follows


def decode_isolated(data: bytes, start: int, stop: int, shape: tuple[int, int], name: str) -> Iterator[UInt8Image]:
    """Frames ``start`` to ``stop`` (excluded) of a DICOM file, one after the other: uint8 (height, width, 3).

    Args:
        data: the bytes of the file.
        start, stop: indices from 0.
        shape: (height, width) that the header states.
        name: of the file, for messages.

    Raises:
        ImageError: the child failed, crashed, took too long, or sent a frame of another size.
    """
    with subprocess.Popen(
        python_call("sonoedge.edge_runtime.dicom.decode_frames:main", start, stop),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        size = 3 * shape[0] * shape[1]
        try:
            for index in range(start, stop):
                with _deadline(process, START_SECONDS if index == start else FRAME_SECONDS):
                    if index == start:
                        with suppress(BrokenPipeError):
                            process.stdin.write(data)
                            process.stdin.close()
                    header = process.stdout.read(HEADER.size)
                    whole = len(header) == HEADER.size and HEADER.unpack(header) == shape
                    pixels = process.stdout.read(size) if whole else b""
                if not whole or len(pixels) < size:
                    raise ImageError(f"{name} is a DICOM file without a readable image (lossless JPEG damaged).")
                yield np.frombuffer(pixels, np.uint8).reshape(*shape, 3)
        finally:
            process.kill()
            with suppress(OSError):
                process.stdin.close()


@contextmanager
def _deadline(process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """Kill the process if the block takes longer."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
