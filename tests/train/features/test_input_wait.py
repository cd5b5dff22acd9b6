"""Prefetched batches, and the time that their consumer waits."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Event
from typing import Any

import pytest

from sonoedge.train.features.input_wait import InputWait, prefetched


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("sonoedge.train.features.input_wait.perf_counter", lambda: self.now)


def test_items_come_in_order_and_a_slow_consumer_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, input_wait, found = Clock(monkeypatch), InputWait(), []
    for item, batch in prefetched(lambda x: 2 * x, range(12), input_wait):
        clock.now += 0.5
        found.append((item, batch))
    assert found == [(i, 2 * i) for i in range(12)]
    assert (input_wait.total_s, input_wait.waited_s, input_wait.share) == (6.0, 0.0, 0.0)


def test_a_slow_source_is_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch takes 2 s, and none is begun before it is asked for; the consumer takes half a second."""
    clock, input_wait, found = Clock(monkeypatch), InputWait(), []

    class Late(Future[int]):
        def __init__(self, prepare: Any, item: int) -> None:
            super().__init__()
            self.prepare, self.item = prepare, item

        def result(self, timeout: float | None = None) -> int:
            return self.prepare(self.item)

    def slow(item: int) -> int:
        clock.now += 2.0
        return item

    monkeypatch.setattr(
        "sonoedge.train.features.input_wait.ThreadPoolExecutor.submit", lambda _, *given: Late(*given)
    )
    for _, batch in prefetched(slow, range(10), input_wait):
        clock.now += 0.5
        found.append(batch)
    assert found == list(range(10))
    assert (input_wait.total_s, input_wait.waited_s, input_wait.share) == (25.0, 20.0, 0.8)


def test_batches_are_prepared_while_one_is_used() -> None:
    ready = Event()

    def prepare(item: int) -> int:
        if item == 1:
            ready.set()
        return item

    batches = prefetched(prepare, range(3), InputWait())
    assert next(batches) == (0, 0)
    assert ready.wait(timeout=10)
    batches.close()


def test_an_error_is_raised_where_its_item_is_due() -> None:
    def prepare(item: int) -> int:
        if item == 2:
            raise OSError("image 2")
        return item

    seen = []
    with pytest.raises(OSError, match="image 2"):
        for _, batch in prefetched(prepare, range(5), InputWait()):
            seen.append(batch)
    assert seen == [0, 1]


def test_nothing_computed_is_no_share() -> None:
    input_wait = InputWait()
    assert input_wait.share is None
    assert list(prefetched(str, [], input_wait)) == []
    both = InputWait(2.0, 1.0, 3) + InputWait(2.0, 0.0, 4)
    assert (both.share, both.images) == (0.25, 7)
