"""How far an artifact keeps the full model's accuracy, with intervals, computed from a `Run`.

Artifact and full model are compared on the same images, in pairs. The verdict on keeping a share r of the full
accuracy A: PASS if the whole 95 % interval of the paired difference lies above ``-(1 - r) A``, FAIL if it lies
below, else INCONCLUSIVE: few images decide little. All intervals are by group: copies of an image add nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from sonoedge.benchmarks.records.runfile import Candidate, Run
from sonoedge.train.evaluation.calibration import Bin, calibration_error, reliability
from sonoedge.train.evaluation.intervals import Interval, flip_rate, group_index, paired_accuracy_difference
from sonoedge.train.evaluation.metrics import (
    Confusion,
    Float,
    balanced_accuracy,
    classification_metrics,
    confusion,
    paired_auc_difference,
    roc_points,
    sigmoid,
)

METRICS = (
    "accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1", "auc", "brier",
    "calibration_error",
)  # fmt: skip
SHARES = (0.99, 0.999)


@dataclass(frozen=True)
class Flips:
    """Decisions that differ from the reference's, by true class and direction, with McNemar's exact test.

    ``lost`` decisions were right before and are wrong now, ``gained`` the reverse. The test counts groups: those
    with more lost than gained images against those with fewer.
    """

    total: int
    groups: int
    rate: Interval
    negative_to_positive: int
    negative_to_negative: int
    positive_to_negative: int
    positive_to_positive: int
    lost: int
    gained: int
    mcnemar_p: float


@dataclass(frozen=True)
class Retention:
    """A comparison with the reference on the same images; differences are candidate minus reference."""

    reference: str
    accuracy_kept: float
    accuracy_difference: Interval
    auc_difference: Interval
    flips: Flips
    verdicts: dict[str, str]


@dataclass(frozen=True)
class Scores:
    """One candidate on the images of a run."""

    metrics: dict[str, Interval]
    confusion: Confusion
    reliability: tuple[Bin, ...]
    roc: tuple[tuple[float, ...], ...]
    retention: Retention | None


def scores(run: Run, candidate: Candidate) -> Scores | None:
    """All scores of one candidate; None if it was not scored."""
    if run.data is None or candidate.logits is None:
        return None
    y = np.array([image.label for image in run.data.images])
    groups = [str(image.group) for image in run.data.images]
    logits = np.array(candidate.logits, np.float64)
    probability = sigmoid(logits)
    decided = probability >= candidate.threshold
    metrics = classification_metrics(y, logits, threshold=candidate.threshold, groups=groups)
    metrics["balanced_accuracy"] = balanced_accuracy(
        metrics["sensitivity"], metrics["specificity"], y, decided, groups
    )
    metrics["calibration_error"] = calibration_error(y, probability, groups)
    retention = None
    if run.reference is not None and candidate.name != run.reference:
        reference = run.candidate(run.reference)
        assert reference.logits is not None
        retention = compare(
            reference.name,
            y,
            (np.array(reference.logits, np.float64), reference.threshold),
            (logits, candidate.threshold),
            groups,
        )
    corners = roc_points(y, logits)[:2] if np.unique(y).size == 2 else ()
    return Scores(
        metrics={name: metrics[name] for name in METRICS},
        confusion=confusion(y, decided),
        reliability=reliability(y, probability, groups),
        roc=tuple(tuple(float(v) for v in axis) for axis in corners),
        retention=retention,
    )


def compare(
    name: str,
    y: NDArray[np.int64],
    reference: tuple[Float, float],
    candidate: tuple[Float, float],
    groups: Sequence[str],
) -> Retention:
    """Compare a candidate's (logits, threshold) with the reference's.

    Args:
        name: of the reference.
        y: labels (N,), 0 or 1.
        reference, candidate: logits (N,) and a probability as threshold.
        groups: group of each image.
    """
    theirs, ours = (sigmoid(logits) >= threshold for logits, threshold in (reference, candidate))
    accuracy = float((theirs == y).mean())
    difference = paired_accuracy_difference(theirs == y, ours == y, groups)
    lost, gained = int(((theirs == y) & (ours != y)).sum()), int(((theirs != y) & (ours == y)).sum())
    net = np.bincount(group_index(groups, y.size), (ours == y).astype(int) - (theirs == y))
    up, down, positive = ours & ~theirs, theirs & ~ours, y == 1
    flips = Flips(
        total=int((up | down).sum()),
        groups=net.size,
        rate=flip_rate(theirs, ours, groups),
        negative_to_positive=int((up & ~positive).sum()),
        negative_to_negative=int((down & ~positive).sum()),
        positive_to_negative=int((down & positive).sum()),
        positive_to_positive=int((up & positive).sum()),
        lost=lost,
        gained=gained,
        mcnemar_p=mcnemar(int((net < 0).sum()), int((net > 0).sum())),
    )
    return Retention(
        reference=name,
        accuracy_kept=float((ours == y).mean()) / accuracy if accuracy else float("nan"),
        accuracy_difference=difference,
        auc_difference=paired_auc_difference(y, reference[0], candidate[0], groups),
        flips=flips,
        verdicts={share_name(share): verdict(difference, accuracy, share) for share in SHARES},
    )


def share_name(share: float) -> str:
    """A share as text, ``99 %`` or ``99.9 %``: the keys of `Retention.verdicts`."""
    return f"{100 * share:g} %"


def mcnemar(lost: int, gained: int) -> float:
    """McNemar's exact two-sided p for equal chances of loss and gain; 1 without discordant pairs."""
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def verdict(difference: Interval, accuracy: float, share: float) -> str:
    """PASS, FAIL or INCONCLUSIVE on keeping a share of the full accuracy (see this module)."""
    limit = -(1 - share) * accuracy
    if difference.low >= limit:
        return "PASS"
    return "FAIL" if difference.high < limit else "INCONCLUSIVE"
