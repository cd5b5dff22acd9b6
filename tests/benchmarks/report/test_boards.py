"""Estimated latency on boards."""

from __future__ import annotations

from sonoedge.benchmarks.report.boards import BOARDS


def test_estimates_are_ordered() -> None:
    pi4, pi5 = BOARDS
    for board in BOARDS:
        low, high = board.latency_ms(20_000_000_000, 0)
        all_int8, mixed = (board.latency_ms(20_000_000_000, part)[0] for part in (20_000_000_000, 10_000_000_000))
        assert 0 < all_int8 < mixed < low < high
    assert pi5.latency_ms(10**9, 0)[1] < pi4.latency_ms(10**9, 0)[0]
    # The published point that the module names lies in the range.
    low, high = pi4.latency_ms(569_000_000, 0)
    assert low < 75 < high
