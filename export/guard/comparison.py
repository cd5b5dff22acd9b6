"""A quantized file against float32 on the same images: flips, accuracy, AUC, verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.proportion import GroupedCount, Verdict, verdict_of
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.evaluation.intervals import Interval, differing, paired_accuracy_difference
from sonoedge.train.evaluation.metrics import paired_auc_difference, sigmoid

Logits = NDArray[np.float64]
_SLACK = 1e-12
_BETWEEN = np.linspace(0.1, 0.9, 9)
"""Places between two neighbouring logits, as shares of their distance, at which a threshold may lie."""


@dataclass(frozen=True)
class Budget:
    """What may be lost: absolute drops in accuracy and AUC, share of decisions flipped."""

    max_drop: float = 0.01
    max_flips: float = 0.01


@dataclass(frozen=True)
class Comparison:
    """A candidate against float32 on the same images.

    Attributes:
        logits: of the candidate, float64 (N,).
        threshold: probability, refitted to the full model's sensitivity if quantization has changed it.
        differing: decisions that differ, by group.
        accuracy_difference, auc_difference: with 95 % intervals by group; a negative difference is a loss.
        logit_error: root mean square of the difference in the logit.
        expected_flips: share of decisions that flip if every image gets every image's logit error. A count of flips
            is coarse, and the best of several candidates is lucky; this estimate uses all pairs.
        frames: decisions that differ on unlabelled frames of other groups; None without frames.
    """

    logits: Logits
    threshold: float
    differing: GroupedCount
    accuracy_difference: Interval
    auc_difference: Interval
    logit_error: float
    expected_flips: float = 0.0
    frames: GroupedCount | None = None

    @property
    def flipped(self) -> int:
        """Decisions that differ on the validation images."""
        return self.differing.events

    @property
    def flips(self) -> Interval:
        """Share of the validation images whose decisions differ, with its exact 95 % interval by group."""
        return self.differing.interval()

    @property
    def all_flips(self) -> GroupedCount:
        """Decisions that differ on validation images and unlabelled frames; they give the verdict on flips."""
        return self.differing if self.frames is None else self.differing + self.frames

    def within(self, budget: Budget) -> bool:
        """Whether the point estimates are within the budget."""
        return (
            -self.accuracy_difference.value <= budget.max_drop + _SLACK
            and -self.auc_difference.value <= budget.max_drop + _SLACK
            and self.differing.share <= budget.max_flips + _SLACK
            and self.expected_flips <= budget.max_flips + _SLACK
            and (self.frames is None or self.frames.share <= budget.max_flips + _SLACK)
        )

    def verdicts(self, budget: Budget) -> dict[str, Verdict]:
        """Verdicts on ``flips``, ``accuracy`` and ``AUC``.

        PASS if the whole interval is within the budget, FAIL if it is outside, INCONCLUSIVE if it crosses the
        budget. The accuracy cannot fall by more than the share of decisions that differ. So it also passes if that
        share, with the unlabelled frames, is within the budget.
        """
        accuracy, auc = (
            Interval(-d.value, -d.high, -d.low) for d in (self.accuracy_difference, self.auc_difference)
        )
        flips = self.all_flips
        fallen = verdict_of(accuracy, budget.max_drop)
        if fallen == "INCONCLUSIVE" and flips.verdict(budget.max_drop) == "PASS":
            fallen = "PASS"
        return {
            "flips": flips.verdict(budget.max_flips),
            "accuracy": fallen,
            "AUC": verdict_of(auc, budget.max_drop),
        }

    def verdict(self, budget: Budget) -> Verdict:
        """PASS if all of `verdicts` pass, FAIL if one of them fails, else INCONCLUSIVE."""
        found = set(self.verdicts(budget).values())
        return "FAIL" if "FAIL" in found else "INCONCLUSIVE" if "INCONCLUSIVE" in found else "PASS"

    def missing(self, budget: Budget) -> int | None:
        """How many more groups without a flip make flips and accuracy PASS; None if no number does."""
        limits = [budget.max_flips]
        if self.verdicts(budget)["accuracy"] == "INCONCLUSIVE":
            limits.append(budget.max_drop)
        return self.all_flips.missing(min(limits))

    def open_words(self, budget: Budget) -> str:
        """What an INCONCLUSIVE verdict lacks: `` (297 more groups for PASS)``; empty for the other verdicts."""
        if self.verdict(budget) != "INCONCLUSIVE":
            return ""
        found, parts = self.verdicts(budget), []
        if "INCONCLUSIVE" in (found["flips"], found["accuracy"]):
            more = self.missing(budget)
            parts.append("no number of groups is enough" if more is None else f"{more} more groups for PASS")
        if found["AUC"] == "INCONCLUSIVE":
            parts.append("AUC needs more labelled images")
        return f" ({'; '.join(parts)})"


def compare(dataset: Dataset, reference: Logits, threshold: float, logits: Logits) -> Comparison:
    """Compare a candidate's logits with those of float32, image by image, after refitting the threshold.

    Args:
        dataset: N images.
        reference: logits of float32, (N,).
        threshold: probability threshold of float32.
        logits: of the candidate, (N,).
    """
    y = dataset.y
    own = refit_threshold(y, reference, logits, threshold)
    theirs, ours = sigmoid(reference) >= threshold, sigmoid(logits) >= own
    return Comparison(
        logits=logits,
        threshold=own,
        differing=differing(theirs, ours, dataset.groups),
        accuracy_difference=paired_accuracy_difference(theirs == y, ours == y, dataset.groups),
        auc_difference=paired_auc_difference(y, reference, logits, dataset.groups),
        logit_error=float(np.sqrt(np.mean((logits - reference) ** 2))),
        expected_flips=_expected_flips(reference - _logit(threshold), logits - _logit(own)),
    )


def _expected_flips(margins: Logits, own: Logits) -> float:
    """Share of all pairs of one image's margin and another's error in which the error changes the sign."""
    return float(turned(margins, own - margins).mean())


def turned(margins: Logits, errors: Logits) -> NDArray[np.bool_]:
    """Whether a margin changes its sign if an error is added to it, for all pairs of margins and errors.

    Args:
        margins: logits minus the logit of the threshold, (N,).
        errors: (M,).

    Returns:
        bool (N, M).
    """
    return np.asarray((margins[:, None] + errors[None] >= 0) != (margins >= 0)[:, None])


def _logit(probability: float) -> float:
    p = min(max(probability, 1e-12), 1 - 1e-12)
    return float(np.log(p) - np.log1p(-p))


def refit_threshold(y: NDArray[np.int64], reference: Logits, logits: Logits, threshold: float) -> float:
    """The artifact's probability threshold: the full model's, or refitted on validation to its sensitivity.

    Among the thresholds with the full model's sensitivity it takes one with the fewest flipped decisions, then the
    fewest expected ones, then the one nearest to the full model's. So a threshold moves only if it must, and no
    further than it must. It is fitted to the validation images and judged on them: a little optimistic, as every
    validation figure is.

    Args:
        y: labels (N,), 0 or 1.
        reference: logits of float32, (N,).
        logits: of the candidate, (N,).
        threshold: probability threshold of float32.
    """
    decisions = sigmoid(reference) >= threshold
    margins, limit = reference - _logit(threshold), _logit(threshold)
    positive = y == 1
    wanted = int(decisions[positive].sum())
    ranked = np.unique(logits)
    # Between two neighbouring logits all thresholds decide these images alike, but not all are as safe for others.
    between = ranked[:-1, None] + np.diff(ranked)[:, None] * _BETWEEN
    cuts = np.concatenate([[limit], between.reshape(-1)])
    cuts = cuts[[int((logits[positive] >= cut).sum()) == wanted for cut in cuts]]
    if not cuts.size:
        return threshold
    flips = np.array([int(((logits >= cut) != decisions).sum()) for cut in cuts])
    cuts = cuts[flips == flips.min()]
    best = min(cuts, key=lambda cut: (_expected_flips(margins, logits - cut), abs(cut - limit)))
    return threshold if best == limit else float(sigmoid(best))


def counted_json(count: GroupedCount, budget: Budget) -> dict[str, Any]:
    """Decisions that differ on unlabelled frames, for the bundle: plain JSON types."""
    return {
        "images": count.images,
        "groups": count.groups,
        "flipped": count.events,
        "flips": rounded(count.interval()),
        "verdict": count.verdict(budget.max_flips),
        "groups_missing": count.missing(budget.max_flips),
    }


def rounded(interval: Interval) -> list[float]:
    """``[value, low, high]``, rounded for JSON."""
    return [round(float(value), 5) for value in (interval.value, interval.low, interval.high)]
