"""What a candidate keeps of the reference's explanations: computed from a `Run`, beside the accuracy it keeps.

Per image the cosine of the two shown maps, of the class that the reference decides for. The verdict is on the
median: PASS where its whole 95 % interval reaches the bound, FAIL where none of it does, INCONCLUSIVE where it
holds the bound. Where only one of the two maps is zero the explanation is lost, and counts as a cosine of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from sonoedge.benchmarks.records.runfile import Candidate, Run
from sonoedge.train.evaluation.bootstrap import percentile_interval, resamples
from sonoedge.train.evaluation.intervals import Interval, group_index, union

FLOAT_BOUND, INTEGER_BOUND = 0.9999, 0.98
"""Smallest median cosine at which a file keeps the explanation: fp32, and everything else."""
_RESAMPLES = 2000
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Explained:
    """Heat maps against those of ``reference``: median cosine with its interval, 5th percentile, verdict.

    ``lost`` are the images on which only one of the two maps is zero.
    """

    reference: str
    images: int
    cosine: Interval
    low: float
    lost: int
    bound: float
    verdict: str


def bound_of(precision: str) -> float:
    """What the median cosine of a file of that precision must reach."""
    return FLOAT_BOUND if precision == "fp32" else INTEGER_BOUND


def explained(run: Run, candidate: Candidate) -> Explained | None:
    """What a candidate keeps; None for the reference itself and where maps were not compared."""
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

    A bootstrap by group, joined with the exact interval between order statistics (as many images at least lie below
    the median as a fair coin shows), which fewer than 6 images leave at 0–1.
    """
    order = np.argsort(values, kind="stable")
    drawn = []
    for weights in resamples(y, group_index(groups, values.size), _RESAMPLES, 0):
        reached = np.cumsum(weights[:, order], axis=1)
        drawn.append(values[order][(reached >= reached[:, -1:] / 2).argmax(axis=1)])
    middle = float(np.median(values))
    rank = int(binom.ppf(0.025, values.size, 0.5))  # of n draws; fewer lie below it in 2.5 % of all cases at most
    low, high = (0.0, 1.0) if rank < 1 else (float(values[order[rank - 1]]), float(values[order[-rank]]))
    return union(percentile_interval(middle, np.concatenate(drawn)), Interval(middle, low, high))
