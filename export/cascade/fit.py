"""Where a cascade asks its full model: fitted on validation images, as numbers in and numbers out.

A line takes the cheap model's logit to the full model's; within a margin around the full model's threshold the full
model is asked. An estimate outside the margin may still be wrong; how often is expected when every image gets every
image's error of the estimate (as in the guard's expected flips), and counted. The margin is the smallest at which
both stay below what is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.bundle.contract import CascadeSpec
from sonoedge.edge_runtime.errors import DataError
from sonoedge.export.guard.comparison import turned
from sonoedge.train.evaluation.intervals import flip_rate

AGREEMENT = 0.995

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A fitted cascade; shares are of the validation images.

    Attributes:
        scale, offset, margin: see `CascadeSpec`.
        escalated: what the full model is asked.
        expected_agreement: with the full model's decisions, from the estimate's errors.
        observed_agreement: the same, counted.
    """

    scale: float
    offset: float
    margin: float
    escalated: float
    expected_agreement: float
    observed_agreement: float


def fit_cascade(first: Float, full: Float, cut: float, agreement: float = AGREEMENT) -> Fit:
    """The line and the smallest margin with that agreement.

    Args:
        first, full: logits (N,) of both models on the same validation images.
        cut: the full model's threshold, as a logit.
        agreement: share of the full model's decisions, in (0, 1].

    Raises:
        DataError: fewer than 8 images, or a cheap model whose logit does not rise with the full model's.
    """
    if len(first) < 8:
        raise DataError(f"A cascade needs at least 8 validation images. Received: {len(first)}.")
    centred = first - first.mean()
    scale = float(centred @ full) / max(float(centred @ centred), 1e-12)
    if scale <= 0:
        raise DataError("The cheap model's logit does not rise with the full model's: it cannot decide for it.")
    offset = float(full.mean() - scale * first.mean())
    estimate = scale * first + offset
    distance = estimate - cut
    # Image by image, how often another image's error would turn the decision.
    wrong = turned(distance, full - estimate).mean(axis=1)
    disagrees = (full >= cut) != (distance >= 0)
    # From a margin that asks the full model nothing to one that asks it everything.
    margins = np.concatenate([[0.0], np.nextafter(np.sort(np.abs(distance)), np.inf)])
    for margin in margins:
        decided = np.abs(distance) >= margin
        lost, observed = float((wrong * decided).mean()), float((disagrees & decided).mean())
        if max(lost, observed) <= 1 - agreement + 1e-12:
            break
    return Fit(scale, offset, float(margin), float(1 - decided.mean()), 1 - lost, 1 - observed)


def counted(spec: CascadeSpec, first: Float, full: Float, cut: float, groups: Sequence[str]) -> dict[str, Any]:
    """How the cascade decides, against the full model; ``groups``: N names of patients or source images."""
    distance = spec.scale * first + spec.offset - cut
    decided = np.abs(distance) >= spec.margin
    decisions = np.where(decided, distance >= 0, full >= cut)
    return {
        "images": len(first),
        "groups": len(set(groups)),
        "escalated": round(float(1 - decided.mean()), 4),
        **agreement("agreement", full >= cut, decisions, groups),
    }


def agreement(name: str, a: NDArray[np.bool_], b: NDArray[np.bool_], groups: Sequence[str]) -> dict[str, Any]:
    """Share of equal decisions and its exact 95 % interval by group."""
    flips = flip_rate(a, b, groups)
    interval = [round(1 - flips.high, 5), round(1 - flips.low, 5)]
    return {name: round(1 - flips.value, 5), f"{name}_interval": interval}
