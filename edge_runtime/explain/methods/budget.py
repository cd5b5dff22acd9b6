"""When a method stops: it is done, its ranking of regions no longer changes, or its time is over."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import UsageError

COMPLETE, STABLE, TIME = "complete", "stable", "time"
STABLE_CORRELATION = 0.98
"""Rank correlation with the estimate before, from which a ranking counts as unchanged."""
_CHECKS = 20
"""How often in a whole run the ranking is looked at."""
_UNCHANGED = 3
"""So many times in a row the ranking must be unchanged."""

Regions = Callable[[], NDArray[np.floating]]
Watcher = Callable[[int, int], None]


class Budget:
    """Says after each step of a method whether it may go on.

    The ranking's check depends on calls alone, so that equal seeds give equal maps. A limit in seconds depends on
    the machine: a map that it cut short need not come out again.

    Args:
        seconds: None sets no limit.
        stable: whether to stop once the ranking no longer changes.
        watch: is told how many steps of how many are done.
        clock: gives seconds.

    Raises:
        UsageError: ``seconds`` is not above 0.
    """

    def __init__(
        self,
        seconds: float | None = None,
        *,
        stable: bool = True,
        watch: Watcher | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        check_seconds(seconds)
        self.seconds, self._stable, self._watch, self._clock = seconds, stable, watch, clock
        self._started = clock()
        self._before: NDArray[np.floating] | None = None
        self._unchanged = 0
        self.done = self.total = 0
        self.stopped = COMPLETE

    @property
    def elapsed(self) -> float:
        """Seconds since the budget was made."""
        return self._clock() - self._started

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self.seconds is not None and self.elapsed >= self.seconds

    def more(self, done: int, total: int, regions: Regions | None = None) -> bool:
        """Whether a method that has done ``done`` of ``total`` steps may take the next one.

        Args:
            done: steps so far.
            total: steps of a whole run.
            regions: gives the values of the regions so far, in a fixed order; None if there are none yet.
        """
        self.done, self.total = done, total
        if self._watch is not None:
            self._watch(done, total)
        if done >= total:
            return False
        if self.over:
            self.stopped = TIME
            return False
        if self._stable and regions is not None and done and done % max(1, total // _CHECKS) == 0:
            return not self._is_stable(regions())
        return True

    def says(self) -> str:
        """Why the method stopped early, as a sentence; empty if it did not."""
        if self.stopped == TIME:
            return (
                f"Partial result: {self.seconds:g} s were enough for {self.done} of {self.total} steps. "
                "A larger --budget gives the whole map."
            )
        if self.stopped == STABLE:
            return f"Stopped after {self.done} of {self.total} steps: the order of the regions no longer changed."
        return ""

    def same(self, before: NDArray[np.floating], now: NDArray[np.floating]) -> bool:
        """Whether the ranking of two whole rounds is the same; the method then stops."""
        if self._stable and rank_correlation(before, now) >= STABLE_CORRELATION:
            self.stopped = STABLE
        return self.stopped == STABLE

    def _is_stable(self, regions: NDArray[np.floating]) -> bool:
        before, self._before = self._before, np.array(regions, np.float64)
        same = before is not None and rank_correlation(before, self._before) >= STABLE_CORRELATION
        self._unchanged = self._unchanged + 1 if same else 0
        if self._unchanged >= _UNCHANGED:
            self.stopped = STABLE
        return self.stopped == STABLE


def check_seconds(seconds: float | None) -> None:
    """Raise a `UsageError` unless a limit is a finite number above 0, or None."""
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"A budget is a number of seconds above 0. Received: {seconds}.")


def rank_correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Spearman's rank correlation of two arrays of one shape, ties at their mean rank; NaN if one is constant."""
    x, y = (_ranks(values) - (values.size - 1) / 2 for values in (a, b))
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else float("nan")


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[inverse.ravel()]
