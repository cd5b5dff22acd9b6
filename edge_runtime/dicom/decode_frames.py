"""The program of the child process that `edge_runtime.dicom.child` starts."""

from __future__ import annotations

import sys

import numpy as np

from sonoedge.edge_runtime.dicom.child import HEADER
from sonoedge.edge_runtime.dicom.read import read_dicom
from sonoedge.edge_runtime.process_limits import limit_process


def main(start: str, stop: str) -> None:
    """Read a DICOM file from stdin and write frames ``start`` to ``stop`` (excluded) to stdout."""
    limit_process()
    opened = read_dicom(sys.stdin.buffer.read(), isolate=False)
    for index in range(int(start), int(stop)):
        frame = opened.frame(index)
        sys.stdout.buffer.write(HEADER.pack(*frame.shape[:2]) + np.ascontiguousarray(frame).tobytes())
        sys.stdout.buffer.flush()
