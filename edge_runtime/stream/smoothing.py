"""The temporal filter of live frames and cine loops."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

DEFAULT_SECONDS = 0.5


@dataclass(frozen=True)
class Recent:
    """Smallest and largest probability over the last ``frames`` frames."""

    low: float
    high: float
    frames: int


class Smoother:
    """Exponential average of the logit with a time constant in seconds, correct for uneven frame times.

    A frame that comes dt seconds after the last one has the weight 1 - exp(-dt / tau). At any frame rate the
    average follows a step to 63 % after tau and to 95 % after 3 tau. After a pause longer than 10 tau it starts
    again. Beside the average stands the range of the frames' own probabilities over the last 3 tau.

    Args:
        seconds: tau; 0 switches the filter off.
    """

    def __init__(self, seconds: float = DEFAULT_SECONDS) -> None:
        self.seconds = seconds
        self._logit: float | None = None
        self._last = 0.0
        self._recent: deque[tuple[float, float]] = deque()

    def add(self, logit: float, when: float) -> tuple[float, Recent | None]:
        """Add a frame's logit at time ``when`` (seconds, rising).

        Returns:
            The smoothed probability, and the range of recent probabilities; None for a single frame.
        """
        pause = when - self._last
        if self._logit is None or self.seconds <= 0 or pause > 10 * self.seconds:
            self._logit = logit
            self._recent.clear()
        else:
            self._logit += (1.0 - math.exp(-max(pause, 0.0) / self.seconds)) * (logit - self._logit)
        self._last = when
        self._recent.append((when, sigmoid(logit)))
        while self._recent and self._recent[0][0] < when - 3 * self.seconds:
            self._recent.popleft()
        values = [probability for _, probability in self._recent]
        recent = Recent(min(values), max(values), len(values)) if len(values) > 1 else None
        return sigmoid(self._logit), recent


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)) without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    return math.exp(logit) / (1.0 + math.exp(logit))
