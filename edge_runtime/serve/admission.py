"""Back-pressure: a few requests are read and computed, some wait in line, the others are told to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Busy(Exception):
    """The line is full: answer 503 with Retry-After."""


class Admission:
    """Lets ``active`` requests in at a time; ``waiting`` more may stand in line with their bodies unread.

    A body stays in the client's and the kernel's buffers until its turn, so memory does not grow with the line.
    """

    def __init__(self, active: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(active)
        self._limit = active + waiting
        self.present = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it within the block.

        Raises:
            Busy: the line is full.
        """
        if self.present >= self._limit:
            raise Busy
        self.present += 1
        try:
            async with self._slots:
                yield
        finally:
            self.present -= 1
