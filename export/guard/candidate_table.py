"""Candidates of the guard: their figures, which one is taken, the table of all, what the bundle promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sonoedge.export.guard.comparison import Budget, Comparison, counted_json, rounded
from sonoedge.export.quantize.recipes import Recipe
from sonoedge.train.tables import Column, fitted

_COLUMNS = (
    Column("candidate", left=True), Column("MB", 7), Column("int8", 6), Column("p50 ms", 9), Column("faster", 8),
    Column("flipped, 95 % interval by group", 34, left=True), Column("expected", 9), Column("accuracy", 9),
    Column("AUC", 9), Column("|logit|", 9), Column("threshold", 10), Column("verdict", left=True),
)  # fmt: skip
LATENCY_TIE = 0.03
"""Candidates whose median latencies differ by less are equally fast: the measurement cannot tell them apart."""


@dataclass(frozen=True)
class Candidate:
    """One candidate: a recipe, its file, and what was measured.

    Attributes:
        name: in words.
        recipe: which operators are quantized how.
        path: the file.
        size_bytes: of the backbone.
        comparison: with float32; None if the candidate could not be built or run.
        error: then, the reason: for example an operator that the interpreter lacks.
        p50_ms: median latency of the backbone.
        device: interpreter and, for OpenVINO, the precisions that it really executes.
        int8_share: share of the multiply-adds in int8, 0–1.
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
        """Whether the candidate runs and its point estimates are within the budget."""
        return self.comparison is not None and self.comparison.within(budget)

    def to_json(self, budget: Budget) -> dict[str, Any]:
        """Figures for the bundle: plain JSON types."""
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
            "flips": rounded(found.flips),
            "groups_missing": found.missing(budget),
            "accuracy_difference": rounded(found.accuracy_difference),
            "auc_difference": rounded(found.auc_difference),
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
class CandidateTable:
    """All candidates, timed in one run together with float32.

    Attributes:
        candidates: in the order in which they were built.
        budget: what may be lost.
        float_p50_ms: median latency of float32.
        min_speedup: how many times as fast as float32 a file must be; 0 if nothing can be promised.
    """

    candidates: tuple[Candidate, ...]
    budget: Budget
    float_p50_ms: float
    min_speedup: float = 0.0

    @property
    def chosen(self) -> Candidate | None:
        """The fastest candidate that is within the budget and fast enough; None if there is none.

        Among equally fast ones it is the candidate with the smallest logit error.
        """
        passing = [c for c in self.candidates if c.within(self.budget) and self.is_fast(c)]
        if not passing:
            return None
        limit = min(c.p50_ms for c in passing) * (1 + LATENCY_TIE)
        return min((c for c in passing if c.p50_ms <= limit), key=_logit_error)

    def speedup(self, candidate: Candidate) -> float:
        """How many times as fast as float32 a candidate is."""
        return self.float_p50_ms / candidate.p50_ms

    def is_fast(self, candidate: Candidate) -> bool:
        """Whether a candidate reaches ``min_speedup``."""
        return not self.speedup(candidate) < self.min_speedup

    @property
    def nearest(self) -> Candidate | None:
        """The candidate with the fewest flips, then the smallest logit error; None if none runs."""
        runnable = [c for c in self.candidates if c.comparison is not None]
        return min(runnable, key=lambda c: (_flipped(c), _logit_error(c))) if runnable else None


def promise(candidate: Candidate | None, budget: Budget) -> dict[str, Any]:
    """What a bundle promises about a file's decisions.

    Returns:
        ``kept``: whether the file is within the budget, and ``text`` for the user.
    """
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


def table_text(table: CandidateTable) -> str:
    """The table of all candidates for the terminal."""
    rows = []
    chosen, measured, budget = table.chosen, None, table.budget
    for c in table.candidates:
        found = c.comparison
        if found is None:
            rows.append([c.name, f" skipped: {c.error.splitlines()[0]}"])
            continue
        measured = found.differing
        verdict = f"{found.verdict(budget)}{found.open_words(budget)}{' <- taken' if c is chosen else ''}"
        rows.append([
            c.name, f"{c.size_bytes / 1e6:.1f}", f"{100 * c.int8_share:.0f}%", f"{c.p50_ms:.2f}",
            f"{table.speedup(c):.1f}x", measured.counted_words(), f"{100 * found.expected_flips:.1f} %",
            f"{found.accuracy_difference.value:+.4f}", f"{found.auc_difference.value:+.4f}",
            f"{found.logit_error:.3f}", f"{found.threshold:.3f}", verdict,
        ])  # fmt: skip
    lines = [fitted(_COLUMNS, rows, indent="  ")]
    counted = f"{measured.images} validation images in {measured.groups} groups; " if measured else ""
    lines.append(
        f"  {counted}float32 {table.float_p50_ms:.2f} ms; budget: accuracy and AUC drop "
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
