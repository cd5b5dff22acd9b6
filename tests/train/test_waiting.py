"""Prefetched batches, and the time that their consumer waits."""

from __future__ import annotations

from threading import Event
from time import sleep

import pytest

from train.waiting import Waiting, prefetched


def test_items_come_in_order_and_a_slow_consumer_does_not_wait() -> None:
    waiting = Waiting()
    found = []
    for item, batch in prefetched(lambda x: 2 * x, range(12), waiting):
        sleep(0.01)
        found.append((item, batch))
    assert found == [(i, 2 * i) for i in range(12)]
    assert waiting.total_s >= 0.12
    assert waiting.share is not None
    assert waiting.share < 0.3


def test_a_slow_source_is_what_is_waited_for() -> None:
    waiting = Waiting()

    def slow(item: int) -> int:
        sleep(0.02)
        return item

    assert [batch for _, batch in prefetched(slow, range(10), waiting)] == list(range(10))
    assert waiting.share is not None
    assert waiting.share > 0.7


def test_batches_are_prepared_while_one_is_used() -> None:
    ready = Event()

    def prepare(item: int) -> int:
        if item == 1:
            ready.set()
        return item

    batches = prefetched(prepare, range(3), Waiting())
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
        for _, batch in prefetched(prepare, range(5), Waiting()):
            seen.append(batch)
    assert seen == [0, 1]


def test_nothing_computed_is_no_share() -> None:
    waiting = Waiting()
    assert waiting.share is None
    assert list(prefetched(str, [], waiting)) == []
    both = Waiting(2.0, 1.0, 3) + Waiting(2.0, 0.0, 4)
    assert (both.share, both.images) == (0.25, 7)
