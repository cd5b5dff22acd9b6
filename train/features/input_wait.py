"""Batches prepared in the background, and how long the model had to wait for them all the same."""

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
    """How long the model waited for input.

    Attributes:
        total_s: seconds from the first batch to the last.
        waited_s: seconds of these in which the next batch was not ready yet.
        images: how many were computed.
    """

    total_s: float = 0.0
    waited_s: float = 0.0
    images: int = 0

    @property
    def share(self) -> float | None:
        """Share of the time spent waiting, 0–1; None if nothing was computed."""
        return self.waited_s / self.total_s if self.total_s else None

    def __add__(self, other: InputWait) -> InputWait:
        return InputWait(self.total_s + other.total_s, self.waited_s + other.waited_s, self.images + other.images)


def prefetched(
    prepare: Callable[[Item], Batch], items: Sequence[Item], input_wait: InputWait
) -> Iterator[tuple[Item, Batch]]:
    """Prepare items in threads, a few ahead, and yield each with its result, in order.

    An exception of ``prepare`` is raised when its item is due. The time until the consumer asks for the next batch
    counts as work. The time until that batch is ready counts as waiting.

    Args:
        prepare: item -> batch; called in another thread.
        items: in order.
        input_wait: the times are added to it.
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
