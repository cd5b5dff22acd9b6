"""The accuracy guard: build and measure quantized candidates, take the fastest that decides the same.

Candidates, until the budget holds: everything quantized; whole branches spared, the most harmful first; everything
quantized with weights rounded for their results; the most harmful operators spared, in the branches that are left;
the same with other range rules. Spared operators calculate in float32. At least `MIN_INT8_SHARE` of the
multiply-adds stay in int8: below that a float16 file is better. Harm is measured on the logit, never guessed from a
layer's name.

Branches do not touch one another, so that a candidate's logits follow from files of single branches. A branch runs
once, whatever the others do, in the real interpreter and against the float32 file of the same runtime. Candidates
are then built whole and timed. The one that is taken runs whole on some images; if its logits differ there from
those of its branches, it runs on all images.

The guard *chooses* by point estimates and *says* PASS, FAIL or INCONCLUSIVE from 95 % intervals: few images decide
little (see `export.guard.comparison`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.export.guard.builder import CandidateBuilder
from sonoedge.export.guard.candidate_table import CandidateTable
from sonoedge.export.guard.comparison import Budget, Comparison
from sonoedge.export.guard.evaluator import SCREENED_IMAGES, SEARCH_IMAGES, Evaluator
from sonoedge.export.memory import released
from sonoedge.export.quantize.quantizers import Quantizer
from sonoedge.export.quantize.recipes import Recipe, int8_share, recipe_for

MIN_INT8_SHARE = 0.9
"""Share of the multiply-adds in int8, at least, in every mix that the guard proposes."""
Ranges = Mapping[str, str]
_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 20)
_WANTED_MIXES = 2


@released()
def search_candidates(
    quantizer: Quantizer,
    evaluator: Evaluator,
    folder: Path,
    budget: Budget,
    *,
    mix: bool = False,
    spare: bool = True,
    progress: bool,
) -> CandidateTable:
    """Build and measure candidates.

    Args:
        quantizer: builds candidates.
        evaluator: measures them.
        folder: for the candidates.
        budget: what may be lost; the search ends when candidates are within it.
        mix: look for mixes even if everything quantized is within the budget.
        spare: whether operators may stay in float; otherwise only range rules and rounding differ.
        progress: show bars.
    """
    builder = CandidateBuilder(quantizer, evaluator, folder)
    search = _Search(builder, budget, progress)
    for ranges in search.range_choices():
        if (search.everything(ranges) and not mix) or (spare and search.spare_branches(ranges)):
            break
        if search.everything(ranges, rounding="fitted") and not mix:
            break
        if spare and search.spare_operators(ranges):
            break
    return builder.table(budget)


def _in_words(ranges: Ranges) -> str:
    """``mse``, or ``left mse, right extremes``."""
    kinds = sorted(set(ranges.values()))
    return kinds[0] if len(kinds) == 1 else ", ".join(f"{branch} {rule}" for branch, rule in ranges.items())


class _Search:
    """Measures on one-branch files what harms the logit, and proposes what to spare."""

    def __init__(self, builder: CandidateBuilder, budget: Budget, progress: bool) -> None:
        self._builder, self._budget, self._progress = builder, budget, progress
        self._quantizer, self._branches = builder.quantizer, builder.evaluator.branches
        self._operators = self._quantizer.operators
        self._harm: dict[str, dict[str, float]] = {}
        self._orders: dict[tuple[tuple[str, ...], frozenset[str], str], list[int]] = {}
        self._all = frozenset(operator.name for operator in self._operators)
        self._rounding, self._error = "nearest", float("inf")

    def range_choices(self) -> Iterator[Ranges]:
        """Range rules by branch: first the best for each branch, then each single rule for all branches."""
        rules = self._quantizer.range_rules
        harm = {rule: self._harm_of(rule) for rule in rules}
        best = {b: min(rules, key=lambda rule: harm[rule][b]) for b in self._branches}
        yield best
        for rule in sorted(rules, key=lambda rule: sum(harm[rule].values())):
            if set(best.values()) != {rule}:
                yield dict.fromkeys(self._branches, rule)

    def everything(self, ranges: Ranges, rounding: str = "nearest") -> bool:
        """Add the candidate with all operators in int8; returns whether it is within the budget.

        Mixes by operator then have the rounding with the smaller logit error.
        """
        named = f"w8a8, {_in_words(ranges)} ranges" + (", fitted rounding" if rounding == "fitted" else "")
        recipe = recipe_for(frozenset(), self._operators, ranges=ranges, rounding=rounding)
        candidate = self._builder.add(named, recipe)
        error = np.inf if candidate.comparison is None else candidate.comparison.logit_error
        self._rounding = rounding if rounding == "nearest" or error < self._error else "nearest"
        self._error = error
        return candidate.within(self._budget)

    def spare_branches(self, ranges: Ranges) -> bool:
        """Add candidates that spare whole branches, until one is within the budget; returns whether one is."""
        for words, names in self._branch_mixes(ranges):
            named = f"mixed by branch, {words} {self._quantizer.spared}"
            if self._builder.add(named, self._recipe(names, ranges)).within(self._budget):
                return True
        return False

    def spare_operators(self, ranges: Ranges) -> bool:
        """Add candidates that spare operators of the branches that are left; returns whether one is within."""
        spared = frozenset[str]().union(*(names for _, names in self._branch_mixes(ranges)))
        branches = self._ranked(ranges)
        rest = [b for b in branches if any(b in op.branches and op.name not in spared for op in self._operators)]
        passed = 0
        for names in self._operator_mixes(rest, spared, ranges):
            named = f"mixed by operator, {len(names)} of {len(self._operators)} {self._quantizer.spared}"
            named += "" if self._rounding == "nearest" else ", fitted rounding"
            passed += self._builder.add(named, self._recipe(names, ranges)).within(self._budget)
            if passed == _WANTED_MIXES:
                break
        return passed > 0

    def _ranked(self, ranges: Ranges) -> list[str]:
        """Branches, the most harmful first."""
        harm = {branch: self._harm_of(rule)[branch] for branch, rule in ranges.items()}
        return sorted(harm, key=lambda branch: -harm[branch])

    def _branch_mixes(self, ranges: Ranges) -> Iterator[tuple[str, frozenset[str]]]:
        """Branches to spare, in words, with their operators: one more each time, while enough stays in int8."""
        ranked = self._ranked(ranges)
        for count in range(1, len(ranked)):
            kept = set(ranked[:count])
            names = frozenset(op.name for op in self._operators if op.branches and op.branches <= kept)
            if int8_share(self._recipe(names, ranges), self._operators) < MIN_INT8_SHARE:
                break
            yield " + ".join(ranked[:count]), names

    def _recipe(self, names: frozenset[str], ranges: Ranges) -> Recipe:
        """These operators spared, the others int8."""
        kept, rounding = self._quantizer.spared, self._rounding
        return recipe_for(names, self._operators, ranges=ranges, kept=kept, rounding=rounding)

    def _harm_of(self, rule: str) -> dict[str, float]:
        """By branch, squared logit error if only that branch is quantized; infinite if it cannot run."""
        if rule not in self._harm:
            bar = tqdm(self._branches, desc=f"{rule} ranges", disable=not self._progress, leave=False)
            self._harm[rule] = {branch: self._harm_alone(branch, Recipe(ranges=rule)) for branch in bar}
        return self._harm[rule]

    def _operator_mixes(
        self, ranked: Sequence[str], spared: frozenset[str], ranges: Ranges
    ) -> Iterator[frozenset[str]]:
        """Sets of operators to spare, with those spared already, that hold the budget: the smallest sets first.

        If no set holds the budget, the one with the smallest logit error.
        """
        fragile = [branch for branch in ranked if not self._holds(branch, spared, ranges)] or list(ranked[:1])
        stretches = self._stretches(fragile, spared)
        # The order by the first range rule serves the others: which operators are fragile hardly depends on it.
        key = (tuple(fragile), spared, self._rounding)
        if key not in self._orders:
            harm = []
            for branch, names in tqdm(stretches, desc="operators", disable=not self._progress, leave=False):
                alone = recipe_for(self._all - names, self._operators, ranges=ranges, rounding=self._rounding)
                harm.append(self._harm_alone(branch, alone))
            self._orders[key] = [int(i) for i in np.argsort(harm)[::-1]]
        order = self._orders[key]
        best: tuple[float, frozenset[str]] | None = None
        held = False
        for count in (step for step in _STEPS if step < len(stretches)):
            kept = spared.union(*(stretches[i][1] for i in order[:count]))
            recipe = self._recipe(kept, ranges)
            if int8_share(recipe, self._operators) < MIN_INT8_SHARE:
                break
            found = self._screen(dict.fromkeys(self._branches, recipe), SCREENED_IMAGES)
            if found is None:
                continue
            if best is None or found.logit_error < best[0]:
                best = (found.logit_error, kept)
            if found.within(self._budget):
                held = True
                yield kept
        if not held and best is not None:
            yield best[1]

    def _stretches(self, branches: Sequence[str], spared: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
        """Runs of consecutive operators of the branches; operators that two branches share belong to the first."""
        stretches: list[tuple[str, frozenset[str]]] = []
        taken = set(spared)
        for branch in branches:
            names = [op.name for op in self._operators if branch in op.branches and op.name not in taken]
            taken |= set(names)
            parts = np.array_split(np.array(names, object), min(self._quantizer.stretches, len(names)) or 1)
            stretches += [(branch, frozenset(part)) for part in parts if len(part)]
        return stretches

    def _harm_alone(self, branch: str, recipe: Recipe) -> float:
        """Squared logit error if only this branch follows the recipe; infinite if it cannot run."""
        found = self._screen({branch: recipe}, SEARCH_IMAGES)
        return float("inf") if found is None else found.logit_error**2

    def _holds(self, branch: str, spared: frozenset[str], ranges: Ranges) -> bool:
        found = self._screen({branch: self._recipe(spared, ranges)}, SCREENED_IMAGES)
        return found is not None and found.within(self._budget)

    def _screen(self, recipes: Mapping[str, Recipe], images: int) -> Comparison | None:
        try:
            return self._builder.screen(recipes, images)
        except ModelError:
            return None
