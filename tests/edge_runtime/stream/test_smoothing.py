"""The temporal filter."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoedge.edge_runtime.stream.smoothing import Smoother, sigmoid


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30), st.floats(0.05, 2.0), st.floats(0.01, 0.5))
def test_the_filter_stays_between_its_inputs(logits: list[float], tau: float, pause: float) -> None:
    smoother = Smoother(tau)
    for index, logit in enumerate(logits):
        value, band = smoother.add(logit, index * pause)
        seen = [sigmoid(x) for x in logits[: index + 1]]
        assert min(seen) - 1e-12 <= value <= max(seen) + 1e-12
        assert (band is None) == (index == 0 or pause > 3 * tau)


@pytest.mark.parametrize("steps", [1, 4, 50])
def test_a_step_is_followed_in_the_same_time_at_any_frame_rate(steps: int) -> None:
    smoother = Smoother(0.5)
    smoother.add(0.0, 0.0)
    for index in range(1, steps + 1):
        value, _ = smoother.add(2.0, 0.5 * index / steps)
    assert math.log(value / (1 - value)) == pytest.approx(2 * (1 - math.exp(-1)), abs=1e-9)


def test_a_long_pause_starts_afresh_and_zero_switches_off() -> None:
    smoother = Smoother(0.5)
    smoother.add(5.0, 0.0)
    assert smoother.add(-5.0, 100.0) == (sigmoid(-5.0), None)
    off = Smoother(0.0)
    off.add(5.0, 0.0)
    assert off.add(-5.0, 0.01)[0] == sigmoid(-5.0)


@pytest.mark.parametrize("logit", [-1e9, -800.0, 0.0, 800.0, 1e9])
def test_sigmoid_does_not_overflow(logit: float) -> None:
    assert 0.0 <= sigmoid(logit) <= 1.0
