"""When a cascade asks its full model: a fit on validation images, from numbers to numbers.

A line estimates the full model's logit from the cheap model's. If the estimate lies within a margin around the full
model's threshold, the full model is asked. Outside the margin the estimate may still be wrong. The share of wrong
decisions is counted; it is also expected, by giving every image every image's error of the estimate (as in the
guard's expected flips). The margin is the smallest at which both shares stay below what is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.bundle.contract import CascadeSpec
from sonoedge.edge_runtime.errors import DataError
from sonoedge.export.cascade import AGREEMENT
from sonoedge.export.guard.comparison import turned
from sonoedge.train.evaluation.intervals import flip_rate

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A fitted cascade; shares are of the validation images.

    Attributes:
        scale, offset, margin: see `edge_runtime.bundle.contract.CascadeSpec`.
        escalated: share for which the full model is asked.
        expected_agreement: with the full model's decisions, from the estimate's errors.
        observed_agreement: with the full model's decisions, counted.
    """

    scale: float
    offset: float
    margin: float
    escalated: float
    expected_agreement: float
    observed_agreement: float


def fit_cascade(first: Float, full: Float, cut: float, agreement: float = AGREEMENT) -> Fit:
    """Fit the line, and the smallest margin with the wanted agreement.

    Args:
        first, full: logits (N,) of both models on the same validation images.
        cut: the full model's threshold, as a logit.
        agreement: share of the full model's decisions, in (0, 1].

    Raises:
        DataError: fewer than 8 images, or the cheap model's logit does not rise with the full model's.
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
    # For each image, the share of all images' errors that would turn its decision.
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
    """Count the cascade's decisions against the full model's.

    Args:
        spec: the cascade.
        first, full: logits (N,) of both models.
        cut: the full model's threshold, as a logit.
        groups: N names of patients or source images.

    Returns:
        Images, groups, the share ``escalated`` to the full model, and the figures of `agreement`.
    """
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
    """Share of equal decisions and its exact 95 % interval by group.

    Args:
        name: key of the share; the key of the interval is ``<name>_interval``.
        a, b: decisions (N,).
        groups: N names of patients or source images.
    """
    flips = flip_rate(a, b, groups)
    interval = [round(1 - flips.high, 5), round(1 - flips.low, 5)]
    return {name: round(1 - flips.value, 5), f"{name}_interval": interval}
