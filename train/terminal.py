"""The log of the workstation's packages, and how a command shows it.

Library code says what it does to `LOG`: what a user follows as INFO, what may be wrong as WARNING. A program that
calls the Python API decides with `logging` what becomes of it; a command shows it with `shown`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOG = logging.getLogger("sonoedge")


class _Terminal(logging.Handler):
    """INFO to standard output as it is, warnings and errors to standard error with their level."""

    def emit(self, record: logging.LogRecord) -> None:
        # The streams are looked up for each line: pytest and notebooks replace them.
        if record.levelno >= logging.WARNING:
            print(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr, flush=True)
        else:
            print(record.getMessage(), flush=True)


@contextmanager
def shown(*, lines: bool = True) -> Iterator[None]:
    """Show `LOG` on the terminal within the block.

    Args:
        lines: False shows warnings only, for commands whose standard output is JSON.
    """
    handler, level, propagate = _Terminal(), LOG.level, LOG.propagate
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO if lines else logging.WARNING)
    LOG.propagate = False
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        LOG.propagate = propagate
