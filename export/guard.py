"""The accuracy guard: build a ladder of quantized candidates, measure each, take the fastest that decides the same.

Rungs: everything quantized; whole branches spared, worst first; the most harmful stretches of operators spared,
until the budget holds. What is spared calculates in float32. Harm is measured on the logit, never guessed from a
layer's name. The search looks at one branch at a time, on files that hold nothing else; every candidate on the
ladder is then built whole and runs in the real interpreter over all validation images, against the float32 file of
the same runtime.

The guard *chooses* by point estimates and *says* PASS, FAIL or INCONCLUSIVE from 95 % intervals: few images decide
little (see `export.candidates`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from edge_runtime.backends import Runner
from edge_runtime.errors import ModelError
from edge_runtime.latency import measure
from export.candidates import Budget, Candidate, Comparison, Ladder
from export.judge import SCREENED_IMAGES, SEARCH_IMAGES, Judge
from export.memory import released
from export.quantizers import Quantizer
from export.recipes import Recipe, recipe_for

LATENCY_RUNS = 25
CLOSE_HARM = 2.0
"""Squared errors of drafts on a few images that differ by less say little: both are built."""
Ranges = Mapping[str, str]
_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 20)
_WANTED_MIXES = 2


@released()
def climb(
    quantizer: Quantizer, judge: Judge, folder: Path, budget: Budget, *, mix: bool = False, progress: bool
) -> Ladder:
    """Build and measure the rungs.

    Args:
        quantizer: builds candidates.
        judge: measures them.
        folder: where candidates are written.
        budget: what may be lost; a first rung within it ends the search,
        mix: unless mixes are asked for.
    """
    search = _Search(quantizer, judge, folder, progress)
    rungs = Rungs(quantizer, judge, folder)
    ranges = search.best_ranges(judge.branches)
    plain = rungs.add(
        f"w8a8, {_in_words(ranges)} ranges", recipe_for(frozenset(), quantizer.operators, ranges=ranges)
    )
    if plain.within(budget) and not mix:
        return rungs.ladder(budget)

    def spare(name: str, names: frozenset[str], own: Ranges) -> bool:
        """A rung on which these operators calculate in float32; whether it is within the budget."""
        recipe = recipe_for(names, quantizer.operators, ranges=own, kept=quantizer.spared)
        return rungs.add(name, recipe).within(budget)

    harm = search.branch_harm(ranges)
    ranked = sorted(harm, key=lambda branch: -harm[branch])
    for count in range(1, len(ranked)):
        kept = set(ranked[:count])
        names = frozenset(op.name for op in quantizer.operators if op.branches and op.branches <= kept)
        choices = search.ranked_ranges(ranked[count:])
        for own in choices:
            named = f", {next(iter(own.values()))} ranges" if len(choices) > 1 else ""
            spare(f"mixed by branch, {' + '.join(ranked[:count])} {quantizer.spared}{named}", names, own)
    passed = 0
    for names in search.operator_mixes(ranked, ranges, budget):
        passed += spare(
            f"mixed by operator, {len(names)} of {len(quantizer.operators)} {quantizer.spared}", names, ranges
        )
        if passed == _WANTED_MIXES:
            break
    return rungs.ladder(budget)


def _in_words(ranges: Ranges) -> str:
    """``mse``, or ``left mse, right extremes``."""
    kinds = sorted(set(ranges.values()))
    return kinds[0] if len(kinds) == 1 else ", ".join(f"{branch} {rule}" for branch, rule in ranges.items())


class Rungs:
    """Builds, opens and measures candidates; one that cannot be built or run is kept with the reason."""

    def __init__(self, quantizer: Quantizer, judge: Judge, folder: Path) -> None:
        self._quantizer, self._judge, self._folder = quantizer, judge, folder
        self._candidates: list[Candidate] = []
        self._runners: dict[Path, Runner] = {}

    def add(self, name: str, recipe: Recipe) -> Candidate:
        """The measured candidate, whose latency `ladder` adds."""
        folder = self._folder / f"rung-{len(self._candidates)}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"backbone{self._quantizer.suffix}"
        try:
            self._quantizer.build(path, recipe)
            runner = self._judge.open(path)
        except ModelError as error:
            candidate = Candidate(name, recipe, path, error=str(error))
        else:
            self._runners[path] = runner
            candidate = Candidate(
                name,
                recipe,
                path,
                size_bytes=sum(file.stat().st_size for file in folder.iterdir()),
                comparison=self._judge.compare(path, runner, name),
                device=runner.device,
            )
        self._candidates.append(candidate)
        return candidate

    def ladder(self, budget: Budget, *, runs: int = LATENCY_RUNS) -> Ladder:
        """All candidates with latency, from one interleaved run together with float32."""
        frame = {"image": self._judge.sample()}

        def call(runner: Runner) -> Callable[[], Any]:
            return lambda: runner.run(frame)

        calls = {str(path): call(runner) for path, runner in self._runners.items()}
        latency = measure({"float32": call(self._judge.float_runner), **calls}, runs=runs)
        timed = tuple(
            replace(c, p50_ms=latency[str(c.path)].p50_ms) if str(c.path) in latency else c
            for c in self._candidates
        )
        return Ladder(timed, budget, latency["float32"].p50_ms)


class _Search:
    """Finds out on one-branch files what harms the logit."""

    def __init__(self, quantizer: Quantizer, judge: Judge, folder: Path, progress: bool) -> None:
        self._quantizer, self._judge, self._progress = quantizer, judge, progress
        self._folder = folder / "search"
        self._harm: dict[str, dict[str, float]] = {}
        self._all = frozenset(operator.name for operator in quantizer.operators)

    def best_ranges(self, branches: Sequence[str]) -> dict[str, str]:
        """By branch, the rule for activation ranges with the smallest logit error.

        One rule for all, where the runtime knows no other: then the sum over the branches given decides.
        """
        rules = self._quantizer.range_rules
        harm = {rule: self._harm_of(rule) for rule in rules}
        if self._quantizer.ranges_by_operator:
            return {b: min(rules, key=lambda rule: harm[rule][b]) for b in self._judge.branches}
        best = min(rules, key=lambda rule: sum(harm[rule][branch] for branch in branches))
        return dict.fromkeys(self._judge.branches, best)

    def ranked_ranges(self, branches: Sequence[str]) -> list[dict[str, str]]:
        """`best_ranges`, then the other rules where one rule holds for all branches and their harm is close."""
        best = self.best_ranges(branches)
        if self._quantizer.ranges_by_operator:
            return [best]
        total = {rule: sum(self._harm_of(rule)[b] for b in branches) for rule in self._quantizer.range_rules}
        close = [rule for rule in total if total[rule] <= CLOSE_HARM * min(total.values())]
        return [dict.fromkeys(self._judge.branches, rule) for rule in sorted(close, key=lambda rule: total[rule])]

    def branch_harm(self, ranges: Ranges) -> dict[str, float]:
        """By branch, squared logit error when only that branch is quantized; infinite where it cannot run."""
        return {branch: self._harm_of(rule)[branch] for branch, rule in ranges.items()}

    def _harm_of(self, ranges: str) -> dict[str, float]:
        if ranges not in self._harm:
            bar = tqdm(self._judge.branches, desc=f"{ranges} ranges", disable=not self._progress, leave=False)
            self._harm[ranges] = {branch: self._harm_alone(branch, Recipe(ranges=ranges)) for branch in bar}
        return self._harm[ranges]

    def operator_mixes(self, ranked: Sequence[str], ranges: Ranges, budget: Budget) -> Iterator[frozenset[str]]:
        """Sets of operators to spare that are predicted to hold the budget: the smallest sets first.

        Where the prediction finds none, the one with the smallest logit error.
        """
        fragile = [branch for branch in ranked if not self._holds({branch: Recipe(ranges=ranges[branch])}, budget)]
        fragile = fragile or list(ranked[:1])
        stretches = self._stretches(fragile)
        harm = []
        for branch, names in tqdm(stretches, desc="operators", disable=not self._progress, leave=False):
            alone = recipe_for(self._all - names, self._quantizer.operators, ranges=ranges)
            harm.append(self._harm_alone(branch, alone))
        order = np.argsort(harm)[::-1]
        best: tuple[float, frozenset[str]] | None = None
        held = False
        for count in (step for step in _STEPS if step < len(stretches)):
            kept: frozenset[str] = frozenset().union(*(stretches[i][1] for i in order[:count]))
            recipe = recipe_for(kept, self._quantizer.operators, ranges=ranges, kept=self._quantizer.spared)
            found = self._screen(dict.fromkeys(self._judge.branches, recipe), SCREENED_IMAGES)
            if found is None:
                continue
            if best is None or found.logit_error < best[0]:
                best = (found.logit_error, kept)
            if found.within(budget):
                held = True
                yield kept
        if not held and best is not None:
            yield best[1]

    def _stretches(self, branches: Sequence[str]) -> list[tuple[str, frozenset[str]]]:
        """Runs of consecutive operators of the branches; what two of them share counts with the first."""
        stretches: list[tuple[str, frozenset[str]]] = []
        taken: set[str] = set()
        for branch in branches:
            names = [op.name for op in self._quantizer.operators if branch in op.branches and op.name not in taken]
            taken |= set(names)
            parts = np.array_split(np.array(names, object), min(self._quantizer.stretches, len(names)) or 1)
            stretches += [(branch, frozenset(part)) for part in parts if len(part)]
        return stretches

    def _harm_alone(self, branch: str, recipe: Recipe) -> float:
        """Squared logit error when only this branch follows the recipe; infinite where it cannot run."""
        found = self._screen({branch: recipe}, SEARCH_IMAGES)
        return float("inf") if found is None else found.logit_error**2

    def _holds(self, recipes: Mapping[str, Recipe], budget: Budget) -> bool:
        found = self._screen(recipes, SCREENED_IMAGES)
        return found is not None and found.within(budget)

    def _screen(self, recipes: Mapping[str, Recipe], images: int) -> Comparison | None:
        files = {}
        try:
            for branch, recipe in recipes.items():
                folder = self._folder / branch
                folder.mkdir(parents=True, exist_ok=True)
                files[branch] = folder / f"backbone{self._quantizer.suffix}"
                self._quantizer.build(files[branch], recipe, branch, draft=True)
            return self._judge.screen(files, images=images)
        except ModelError:
            return None
