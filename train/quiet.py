"""Keep other libraries' chatter off the terminal: TensorFlow's, converters' and quantizers' C++ logs."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_TAIL_BYTES = 4000


def silent(*lines: object) -> None:
    """A `print` that says nothing."""


@contextmanager
def quiet() -> Iterator[None]:
    """Send file descriptors 1 and 2 to a temporary file; if the block fails, show the end of that file.

    Python-level redirection is not enough: the lines come from C++. ``SONOEDGE_VERBOSE=1`` switches this off.
    """
    if os.environ.get("SONOEDGE_VERBOSE"):
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(saved, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            if failed:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                sys.stderr.write(log.read().decode(errors="replace"))
