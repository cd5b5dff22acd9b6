"""Common rules of all picture decoders: size limits, the errors of damaged files, the choice of a frame."""

from __future__ import annotations

import struct
import zlib

from sonoedge.edge_runtime.errors import FrameNeededError, ImageError

MAX_PIXELS = 50_000_000
MAX_FRAMES = 10_000
# Pillow's and pydicom's decoders raise all of these on truncated or forged files.
DECODE_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def chosen_frame(name: str, frames: int, frame: int | None) -> int:
    """The index, from 0, of the frame to read from a file of ``frames``.

    Args:
        name: of the file, for messages.
        frames: how many the file holds.
        frame: the number asked for, from 1; None if none was asked for.

    Raises:
        FrameNeededError: there are several frames and none is named; the first would have to stand for all.
        ImageError: the file has no such frame.
    """
    if frame is None and frames > 1:
        raise FrameNeededError(
            f"{name} holds {frames} frames, and an answer is about one. Choose it with --frame (1 to {frames}), "
            "or answer all of them: sonoedge stream --source FILE.",
            frames,
        )
    if frame is not None and not 1 <= frame <= frames:
        raise ImageError(f"{name} has no frame {frame}: it holds {frames}, counted from 1.")
    return (frame or 1) - 1
