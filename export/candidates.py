"""What a quantized candidate lost: comparison with float32, verdicts from intervals, the ladder as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.proportion import GroupedCount, Verdict, judged
from export.recipes import Recipe
from train.data import Dataset
from train.intervals import Interval, differing, paired_accuracy_difference
from train.metrics import paired_auc_difference, sigmoid

Logits = NDArray[np.float64]
LATENCY_TIE = 0.03
"""Candidates whose medians differ by less are equally fast: the measurement cannot tell them apart."""
_SLACK = 1e-12
_BETWEEN = np.linspace(0.1, 0.9, 9)
"""Where between two logits a threshold may lie."""


@dataclass(frozen=True)
class Budget:
    """What may be lost: absolute drops in accuracy and AUC, share of decisions flipped."""

    max_drop: float = 0.01
    max_flips: float = 0.01


@dataclass(frozen=True)
class Comparison:
    """A candidate against float32 on the same images.

    Attributes:
        logits: float64 (N,).
        threshold: probability, refitted to the full model's sensitivity where quantization had changed it.
        differing: decisions that differ, by group.
        accuracy_difference, auc_difference: with 95 % intervals by group; a negative difference is a loss.
        logit_error: root mean square.
        expected_flips: share of decisions that flip when every image gets every image's logit error. A count of
            flips is coarse, and the best of several candidates is lucky; this estimate uses all pairs.
        frames: the same as ``differing`` on unlabelled frames of other groups, where there are some.
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
        """Their share."""
        return self.differing.interval()

    @property
    def all_flips(self) -> GroupedCount:
        """On validation images and unlabelled frames: what the verdict on flips comes from."""
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
        """Of flips, accuracy and AUC: PASS if the whole interval is within the budget, FAIL if it is outside.

        INCONCLUSIVE if it crosses the budget. The accuracy cannot fall by more than the share of decisions that
        differ, which unlabelled frames tell too.
        """
        accuracy, auc = (
            Interval(-d.value, -d.high, -d.low) for d in (self.accuracy_difference, self.auc_difference)
        )
        flips = self.all_flips
        fallen = judged(accuracy, budget.max_drop)
        if fallen == "INCONCLUSIVE" and flips.verdict(budget.max_drop) == "PASS":
            fallen = "PASS"
        return {
            "flips": flips.verdict(budget.max_flips),
            "accuracy": fallen,
            "AUC": judged(auc, budget.max_drop),
        }

    def verdict(self, budget: Budget) -> Verdict:
        """PASS if all three pass, FAIL if one of them fails, else INCONCLUSIVE."""
        found = set(self.verdicts(budget).values())
        return "FAIL" if "FAIL" in found else "INCONCLUSIVE" if "INCONCLUSIVE" in found else "PASS"

    def missing(self, budget: Budget) -> int | None:
        """How many more groups without a flip make flips and accuracy PASS; None where no number does."""
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


@dataclass(frozen=True)
class Candidate:
    """One rung of the ladder.

    Attributes:
        name: in words.
        recipe: what is quantized how.
        path: the file.
        size_bytes: of the backbone.
        comparison: None where it could not be built or run.
        error: then, why: for example an operator that the interpreter lacks.
        p50_ms: median latency of the backbone.
        device: interpreter and, for OpenVINO, the precisions that it really executes.
        int8_share: of the multiply-adds, 0–1.
    """

    name: str
    recipe: Recipe
    path: Path
    size_bytes: int = 0
    comparison: Comparison | None = None
    error: str = ""
    p50_ms: float = float("nan")
    device: Mapping[str, Any] = field(default_factory=dict)
    int8_share: float = 1.0

    def within(self, budget: Budget) -> bool:
        """Whether it runs and its point estimates are within the budget."""
        return self.comparison is not None and self.comparison.within(budget)

    def to_json(self, budget: Budget) -> dict[str, Any]:
        """Figures for the bundle."""
        found = self.comparison
        if found is None:
            return {"candidate": self.name, "error": self.error}
        return {
            "candidate": self.name,
            "verdict": found.verdict(budget),
            "verdicts": found.verdicts(budget),
            "within_budget": found.within(budget),
            "images": len(found.logits),
            "groups": found.differing.groups,
            "flipped": found.flipped,
            "flips": _rounded(found.flips),
            "groups_missing": found.missing(budget),
            "accuracy_difference": _rounded(found.accuracy_difference),
            "auc_difference": _rounded(found.auc_difference),
            "logit_error": round(found.logit_error, 5),
            "expected_flips": round(found.expected_flips, 5),
            "threshold": round(found.threshold, 6),
            "size_bytes": self.size_bytes,
            "p50_ms": self.p50_ms if np.isfinite(self.p50_ms) else None,
            "int8_share": round(self.int8_share, 4),
            "executed": dict(self.device.get("executed", {})),
            "budget": asdict(budget),
        } | ({} if found.frames is None else {"agreement": counted_json(found.frames, budget)})


@dataclass(frozen=True)
class Ladder:
    """All candidates, timed in one run together with float32 (``float_p50_ms``).

    ``min_speedup``: how many times as fast as float32 a file must be; 0 where nothing can be promised.
    """

    candidates: tuple[Candidate, ...]
    budget: Budget
    float_p50_ms: float
    min_speedup: float = 0.0

    @property
    def chosen(self) -> Candidate | None:
        """The fastest that is within the budget and fast enough; of those equally fast the one with the smallest
        logit error."""
        passing = [c for c in self.candidates if c.within(self.budget) and self.is_fast(c)]
        if not passing:
            return None
        limit = min(c.p50_ms for c in passing) * (1 + LATENCY_TIE)
        return min((c for c in passing if c.p50_ms <= limit), key=_logit_error)

    def speedup(self, candidate: Candidate) -> float:
        """How many times as fast as float32."""
        return self.float_p50_ms / candidate.p50_ms

    def is_fast(self, candidate: Candidate) -> bool:
        """Whether it is as many times as fast as float32 as it must be."""
        return not self.speedup(candidate) < self.min_speedup

    @property
    def nearest(self) -> Candidate | None:
        """The one with the fewest flips, then the smallest logit error; None where none runs."""
        runnable = [c for c in self.candidates if c.comparison is not None]
        return min(runnable, key=lambda c: (_flipped(c), _logit_error(c))) if runnable else None


def compare(dataset: Dataset, reference: Logits, threshold: float, logits: Logits) -> Comparison:
    """Paired comparison of logits (N,) with the reference's, after refitting the threshold.

    Args:
        dataset: N images.
        reference: logits of float32.
        threshold: its probability threshold.
        logits: of the candidate.
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
    """Share of all pairs of an image's margin and an image's error whose sum has another sign."""
    return float(turned(margins, own - margins).mean())


def turned(margins: Logits, errors: Logits) -> NDArray[np.bool_]:
    """Whether an image's margin (N,) changes sign with an image's error (M,), for all pairs (N, M)."""
    return np.asarray((margins[:, None] + errors[None] >= 0) != (margins >= 0)[:, None])


def _logit(probability: float) -> float:
    p = min(max(probability, 1e-12), 1 - 1e-12)
    return float(np.log(p) - np.log1p(-p))


def refit_threshold(y: NDArray[np.int64], reference: Logits, logits: Logits, threshold: float) -> float:
    """The artifact's probability threshold: the full model's, or refitted on validation to its sensitivity.

    Of the thresholds with the full model's sensitivity, one with the fewest flipped decisions, then the fewest
    expected ones, then the nearest to the full model's: a threshold does not move for nothing, and no further than
    it must. One number fitted to the validation images, on which it is also judged: a little optimistic, as every
    validation figure is.
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


def promise(candidate: Candidate | None, budget: Budget) -> dict[str, Any]:
    """What a bundle promises about a file's decisions: ``kept`` (bool), and ``text`` for the user."""
    found = candidate.comparison if candidate else None
    if found is None:
        return {"kept": False, "text": "no accuracy promise: not measured, there are no validation images"}
    images = f"{found.differing.images} validation images"
    if found.frames is not None:
        images += f" and {found.frames.images} unlabelled frames"
    flips = found.all_flips.counted_words()
    if not found.within(budget):
        return {
            "kept": False,
            "text": (
                f"no accuracy promise: outside the budget (accuracy and AUC drop {budget.max_drop:g}, flips "
                f"{100 * budget.max_flips:g} %) on {images}: flips {flips}, expected "
                f"{100 * found.expected_flips:.1f} %, accuracy {found.accuracy_difference.value:+.4f}, AUC "
                f"{found.auc_difference.value:+.4f}; verdict {found.verdict(budget)}"
            ),
        }
    return {
        "kept": True,
        "text": (
            f"within the budget (accuracy and AUC drop {budget.max_drop:g}, flips {100 * budget.max_flips:g} %) on "
            f"{images}: flips {flips}; verdict {found.verdict(budget)}{found.open_words(budget)}"
        ),
    }


def counted_json(count: GroupedCount, budget: Budget) -> dict[str, Any]:
    """Decisions that differ on unlabelled frames, for the bundle."""
    return {
        "images": count.images,
        "groups": count.groups,
        "flipped": count.events,
        "flips": _rounded(count.interval()),
        "verdict": count.verdict(budget.max_flips),
        "groups_missing": count.missing(budget.max_flips),
    }


def ladder_table(ladder: Ladder) -> str:
    """The whole ladder as a table for the terminal."""
    width = max(len(c.name) for c in ladder.candidates)
    lines = [
        f"  {'candidate':<{width}}{'MB':>7}{'int8':>6}{'p50 ms':>9}{'faster':>8}  "
        f"{'flipped, 95 % interval by group':<34}{'expected':>9}"
        f"{'accuracy':>9}{'AUC':>9}{'|logit|':>9}{'threshold':>10}  verdict"
    ]
    chosen, measured = ladder.chosen, None
    for c in ladder.candidates:
        found = c.comparison
        if found is None:
            lines.append(f"  {c.name:<{width}}  skipped: {c.error.splitlines()[0]}")
            continue
        measured = found.differing
        budget = ladder.budget
        lines.append(
            f"  {c.name:<{width}}{c.size_bytes / 1e6:>7.1f}{100 * c.int8_share:>5.0f}%{c.p50_ms:>9.2f}"
            f"{f'{ladder.speedup(c):.1f}x':>8}  {measured.counted_words():<34}"
            f"{f'{100 * found.expected_flips:.1f} %':>9}{found.accuracy_difference.value:>+9.4f}"
            f"{found.auc_difference.value:>+9.4f}"
            f"{found.logit_error:>9.3f}{found.threshold:>10.3f}  {found.verdict(budget)}"
            f"{found.open_words(budget)}{' <- taken' if c is chosen else ''}"
        )
    budget = ladder.budget
    counted = f"{measured.images} validation images in {measured.groups} groups; " if measured else ""
    lines.append(
        f"  {counted}float32 {ladder.float_p50_ms:.2f} ms; budget: accuracy and AUC drop "
        f"{budget.max_drop:g}, flips {100 * budget.max_flips:g} %"
    )
    lines.append(
        "  Point estimates choose. Verdicts come from intervals by group: PASS if the whole interval is within the "
        "budget, FAIL if it is outside, INCONCLUSIVE if it crosses it."
    )
    return "\n".join(lines)


def _flipped(candidate: Candidate) -> int:
    assert candidate.comparison is not None
    return candidate.comparison.flipped


def _logit_error(candidate: Candidate) -> float:
    assert candidate.comparison is not None
    return candidate.comparison.logit_error


def _rounded(interval: Interval) -> list[float]:
    return [round(float(value), 5) for value in (interval.value, interval.low, interval.high)]
