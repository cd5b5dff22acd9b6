"""How the threshold of a model, a probability, is chosen from validation scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sonoedge.edge_runtime.errors import DataError
from sonoedge.train.evaluation.metrics import Float, checked_scores, sigmoid


def youden_threshold(y_true: ArrayLike, logit: ArrayLike) -> float:
    """Probability that maximises sensitivity + specificity (Youden, Cancer 3:32, 1950).

    It lies midway, in logits, between two adjacent distinct scores. Among equals the lowest is taken: a missed
    cancer costs more than a recall.

    Args:
        y_true: int (N,), 0 or 1.
        logit: float (N,).

    Raises:
        DataError: as for `train.evaluation.metrics.classification_metrics`, or one class only.
    """
    cuts, hits, rejections = _cuts(y_true, logit)
    return float(sigmoid(cuts[np.argmax(hits * rejections[-1] + rejections[:-1] * hits[0])]))


STEADY_RULE = "widest gap between validation scores among cuts within one standard error of the best Youden's J"
"""`steady_threshold` in words, for the run card."""


def steady_threshold(y_true: ArrayLike, logit: ArrayLike) -> float:
    """Probability far from every score, with a Youden's J that these images cannot tell from the best one.

    Among the cuts within one standard error of the best J (the rule of Breiman et al., CART, 1984), it is the cut
    in the widest gap between scores, in logits; among equals the lowest. `youden_threshold` may lie in a narrow
    gap: then any rounding decides for the images beside it.

    Args:
        y_true: int (N,), 0 or 1.
        logit: float (N,).

    Raises:
        DataError: as for `youden_threshold`.
    """
    cuts, hits, rejections = _cuts(y_true, logit)
    sensitivity, specificity = hits / hits[0], rejections[:-1] / rejections[-1]
    youden = sensitivity + specificity - 1
    # In whole numbers: of equals the lowest, as `youden_threshold` takes it.
    best = int(np.argmax(hits * rejections[-1] + rejections[:-1] * hits[0]))
    variances = (p[best] * (1 - p[best]) / n for p, n in ((sensitivity, hits[0]), (specificity, rejections[-1])))
    scores = np.unique(np.asarray(logit, np.float64))
    # Below the lowest score there is no gap.
    gaps = np.concatenate([[0], np.diff(scores)])
    gaps[youden < youden[best] - sum(variances) ** 0.5 - 1e-12] = -1
    return float(sigmoid(cuts[np.argmax(gaps)]))


def threshold_for_sensitivity(y_true: ArrayLike, logit: ArrayLike, sensitivity: float) -> float:
    """Highest probability, midway between adjacent distinct scores, with at least this sensitivity.

    Args:
        y_true: int (N,), 0 or 1.
        logit: float (N,).
        sensitivity: wanted share of the malignant images, in (0, 1].

    Raises:
        DataError: as for `youden_threshold`, or a sensitivity out of range.
    """
    if not 0 < sensitivity <= 1:
        raise DataError(f"A sensitivity lies in (0, 1]. Received: {sensitivity}.")
    cuts, hits, _ = _cuts(y_true, logit)
    return float(sigmoid(cuts[np.flatnonzero(hits >= sensitivity * hits[0] - 1e-9)[-1]]))


def _cuts(y_true: ArrayLike, logit: ArrayLike) -> tuple[Float, NDArray[np.int64], NDArray[np.int64]]:
    """Cuts (K,) in logits, malignant images at or above each (K,), benign images below each and in all (K + 1,)."""
    y, score = checked_scores(y_true, logit, both=True)
    distinct, inverse = np.unique(score, return_inverse=True)
    # The lowest cut calls everything positive: one logit below the lowest score.
    cuts = np.concatenate([distinct[:1] - 1, (distinct[1:] + distinct[:-1]) / 2])
    positive = np.bincount(inverse, y == 1).astype(np.int64)
    negative = np.bincount(inverse, y == 0).astype(np.int64)
    return cuts, positive[::-1].cumsum()[::-1], np.concatenate([[0], negative.cumsum()])
