"""How far a candidate keeps the reference's explanations, computed from a `Run`.

For each image the two maps as shown, for the class that the reference decides, are compared by their cosine. If
only one of the two maps is zero, the explanation is lost and counts as a cosine of 0. The verdict is on the median:
PASS if its whole 95 % interval reaches the bound, FAIL if no part of it does, else INCONCLUSIVE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from sonoedge.benchmarks.records.runfile import Candidate, Run
from sonoedge.train.evaluation.bootstrap import bootstrap_interval
from sonoedge.train.evaluation.intervals import Interval, union

FLOAT_BOUND, INTEGER_BOUND = 0.9999, 0.98
"""The smallest median cosine at which a file keeps the explanation: for fp32, and for all other precisions."""
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Explained:
    """Heat maps against those of ``reference``: median cosine with its interval, 5th percentile, verdict.

    ``lost`` is the number of images on which only one of the two maps is zero.
    """

    reference: str
    images: int
    cosine: Interval
    low: float
    lost: int
    bound: float
    verdict: str


def bound_of(precision: str) -> float:
    """The bound of the median cosine for a file of this precision."""
    return FLOAT_BOUND if precision == "fp32" else INTEGER_BOUND


def explained(run: Run, candidate: Candidate) -> Explained | None:
    """How far a candidate keeps explanations; None for the reference itself, or if maps were not compared."""
    if run.data is None or run.heatmap_reference is None or candidate.heatmap_cosine is None:
        return None
    if candidate.name == run.heatmap_reference:
        return None
    values = np.array([0.0 if value is None else value for value in candidate.heatmap_cosine])
    y = np.array([image.label for image in run.data.images])
    found = median_interval(values, y, [str(image.group) for image in run.data.images])
    bound = bound_of(candidate.precision)
    return Explained(
        reference=run.heatmap_reference,
        images=values.size,
        cosine=found,
        low=float(np.percentile(values, 5)),
        lost=sum(value is None for value in candidate.heatmap_cosine),
        bound=bound,
        verdict="PASS" if found.low >= bound else "FAIL" if found.high < bound else "INCONCLUSIVE",
    )


def median_interval(values: Float, y: NDArray[np.int64], groups: Sequence[str]) -> Interval:
    """Median of values (N,) in 0–1 with its 95 % interval.

    The interval is the union of a bootstrap by group and the exact interval between order statistics (the number of
    images below the median is binomial with probability 0.5). With fewer than 6 images the latter is 0–1.
    """
    order = np.argsort(values, kind="stable")

    def median(weights: Float) -> Float:
        reached = np.cumsum(weights[:, order], axis=1)
        return values[order][(reached >= reached[:, -1:] / 2).argmax(axis=1)]

    middle = float(np.median(values))
    rank = int(binom.ppf(0.025, values.size, 0.5))  # fewer than this lie below the median in at most 2.5 % of cases
    low, high = (0.0, 1.0) if rank < 1 else (float(values[order[rank - 1]]), float(values[order[-rank]]))
    return union(bootstrap_interval(middle, median, y, groups), Interval(middle, low, high))
