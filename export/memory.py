"""Give freed memory back: converters leave gigabytes of it with the C library, which keeps them."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def released() -> Iterator[None]:
    """After the block, return what was freed in it to the system (glibc's malloc_trim; elsewhere nothing)."""
    try:
        yield
    finally:
        gc.collect()
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
