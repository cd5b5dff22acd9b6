"""Batches prepared in the background, and how long the device had to wait for them all the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

Item = TypeVar("Item")
Batch = TypeVar("Batch")

_AHEAD = 3
_THREADS = 2  # decoding and augmenting release the interpreter lock for most of their time


@dataclass
class InputWait:
    """Seconds that went by while batches were used, and those of them in which the next one was not ready yet."""

    total_s: float = 0.0
    waited_s: float = 0.0
    images: int = 0

    @property
    def share(self) -> float | None:
        """0–1; None where nothing was computed."""
        return self.waited_s / self.total_s if self.total_s else None

    def __add__(self, other: InputWait) -> InputWait:
        return InputWait(self.total_s + other.total_s, self.waited_s + other.waited_s, self.images + other.images)


def prefetched(
    prepare: Callable[[Item], Batch], items: Sequence[Item], input_wait: InputWait
) -> Iterator[tuple[Item, Batch]]:
    """Items with what ``prepare`` makes of them, in order, a few prepared ahead.

    An exception of ``prepare`` is raised where its item is due. The time until the consumer asks for the next batch
    counts as work, the time until it is there as input_wait.
    """
    started = perf_counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        queue: deque[tuple[Item, Future[Batch]]] = deque()
        coming = iter(items)
        try:
            for item in coming:
                queue.append((item, pool.submit(prepare, item)))
                if len(queue) >= _AHEAD:
                    break
            while queue:
                item, future = queue.popleft()
                asked = perf_counter()
                batch = future.result()
                input_wait.waited_s += perf_counter() - asked
                following = next(coming, None)
                if following is not None:
                    queue.append((following, pool.submit(prepare, following)))
                yield item, batch
        finally:
            input_wait.total_s += perf_counter() - started
            for _, future in queue:
                future.cancel()
