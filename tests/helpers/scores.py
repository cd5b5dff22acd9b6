"""Labels and logits: random ones, and as Hypothesis makes them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

# Coarse steps: many ties, and midpoints that survive the sigmoid's rounding.
LOGITS = st.integers(-40, 40).map(lambda k: k / 8)
IMAGES = st.lists(st.tuples(st.integers(0, 1), LOGITS), min_size=1, max_size=40)
BOTH = IMAGES.filter(lambda rows: len({y for y, _ in rows}) == 2)


def split(rows: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([y for y, _ in rows]), np.array([logit for _, logit in rows])


def noisy(n: int, shift: float = 1.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return y, rng.normal(size=n) + shift * (y - 0.5)
