"""Builds and measures the candidates of the accuracy guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.backends import Runner
from sonoedge.edge_runtime.device.latency import measure, time_calls
from sonoedge.edge_runtime.device.system import int8_dot_products
from sonoedge.edge_runtime.errors import ModelError
from sonoedge.export.guard.candidate_table import Candidate, CandidateTable
from sonoedge.export.guard.comparison import Budget, Comparison
from sonoedge.export.guard.evaluator import SCREENED_IMAGES, Evaluator
from sonoedge.export.quantize.quantizers import Quantizer
from sonoedge.export.quantize.recipes import Recipe, assignments, int8_share, range_rules

LATENCY_RUNS = 25
"""Timed calls of each candidate, at most."""
FEWEST_RUNS = 5
"""Timed calls of each candidate, at least."""
LATENCY_SECONDS = 1.5
"""Time for each candidate: if float32 is slow, candidates are called fewer times than `LATENCY_RUNS`."""
MIN_SPEEDUP = 3.0
"""Wanted speed relative to float32 if the processor has int8 dot products and the model is heavy."""
HEAVY_MACS = 5_000_000_000
"""Multiply-adds of a heavy model. With fewer, they take too little of a call for int8 to be so much faster."""


def speedup_wanted(quantizer: Quantizer) -> float:
    """How many times as fast as float32 a file must be on this machine; 0 if nothing can be promised."""
    heavy = sum(operator.macs for operator in quantizer.operators) >= HEAVY_MACS
    return MIN_SPEEDUP if heavy and int8_dot_products() else 0.0


class CandidateBuilder:
    """Builds and measures candidates; a candidate that cannot be built or run is kept with the reason.

    Args:
        quantizer: builds the files.
        evaluator: measures them.
        folder: for the files.
    """

    def __init__(self, quantizer: Quantizer, evaluator: Evaluator, folder: Path) -> None:
        self.quantizer, self.evaluator, self._folder = quantizer, evaluator, folder
        self._candidates: list[Candidate] = []
        self._parts: dict[tuple[object, ...], Path] = {}

    def add(self, name: str, recipe: Recipe) -> Candidate:
        """Measure a candidate branch by branch, on the screened images; `table` adds size and latency."""
        path = self._folder / f"candidate-{len(self._candidates)}" / f"backbone{self.quantizer.suffix}"
        share = int8_share(recipe, self.quantizer.operators)
        try:
            comparison = self.screen(dict.fromkeys(self.evaluator.branches, recipe), SCREENED_IMAGES)
        except ModelError as error:
            candidate = Candidate(name, recipe, path, error=str(error), int8_share=share)
        else:
            candidate = Candidate(name, recipe, path, comparison=comparison, int8_share=share)
        self._candidates.append(candidate)
        return candidate

    def screen(self, recipes: Mapping[str, Recipe], images: int) -> Comparison:
        """Compare with float32 when each branch follows its recipe; branches without a recipe are float32.

        Args:
            recipes: by branch.
            images: how many of the screened images.

        Raises:
            ModelError: a branch cannot be built or run.
        """
        return self.evaluator.screen(self._files(recipes), images=images)

    def _files(self, recipes: Mapping[str, Recipe]) -> dict[str, Path]:
        """Files of single branches by branch, without the branches that stay float32."""
        parts = {branch: self._part(branch, recipe) for branch, recipe in recipes.items()}
        return {branch: path for branch, path in parts.items() if path is not None}

    def _part(self, branch: str, recipe: Recipe) -> Path | None:
        """The file of one branch, built once; None if all of it is float."""
        operators = self.quantizer.operators
        inside = {operator.name for operator in operators if branch in operator.branches}
        precisions = {n: p for n, p in assignments(recipe, operators).items() if n in inside}
        if set(precisions.values()) <= {"float"}:
            return None
        ranges = {n: r for n, r in range_rules(recipe, operators).items() if n in inside}
        key = (branch, recipe.ranges, recipe.rounding, *precisions.items(), *ranges.items())
        if key not in self._parts:
            path = self._folder / "parts" / str(len(self._parts)) / f"backbone{self.quantizer.suffix}"
            path.parent.mkdir(parents=True)
            self.quantizer.build(path, recipe, branch)
            self._parts[key] = path
        return self._parts[key]

    def table(self, budget: Budget, *, runs: int = LATENCY_RUNS) -> CandidateTable:
        """Build and time all candidates, in one interleaved run together with float32.

        The candidate that is taken is then measured whole (see `export.guard.evaluator.Evaluator.compare`). If it
        fails there, the next one is taken and measured.

        Args:
            budget: what may be lost.
            runs: timed calls of each, at most.
        """
        runners: dict[int, Runner] = {}
        for number, candidate in enumerate(self._candidates):
            if candidate.comparison is not None:
                runners |= self._build_whole(number, candidate)
        frame = {"image": self.evaluator.sample()}

        def call(runner: Runner) -> Callable[[], Any]:
            return lambda: runner.run(frame)

        calls = {str(number): call(runner) for number, runner in runners.items()}
        seconds = time_calls(call(self.evaluator.float_runner), min_calls=1)[0]
        runs = min(runs, max(FEWEST_RUNS, round(LATENCY_SECONDS / seconds)))
        latency = measure({"float32": call(self.evaluator.float_runner), **calls}, runs=runs)
        for number in runners:
            self._candidates[number] = replace(self._candidates[number], p50_ms=latency[str(number)].p50_ms)
        confirmed: set[int] = set()
        while True:
            table = CandidateTable(
                tuple(self._candidates), budget, latency["float32"].p50_ms, speedup_wanted(self.quantizer)
            )
            chosen = table.chosen or table.nearest
            number = -1 if chosen is None else self._candidates.index(chosen)
            if chosen is None or number in confirmed:
                return table
            parts = self._files(dict.fromkeys(self.evaluator.branches, chosen.recipe))
            whole = self.evaluator.compare(chosen.path, runners[number], chosen.name, parts)
            self._candidates[number] = replace(chosen, comparison=whole)
            confirmed.add(number)

    def _build_whole(self, number: int, candidate: Candidate) -> dict[int, Runner]:
        """The open file of a candidate by its number; empty if it does not run: the candidate keeps the reason."""
        candidate.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.quantizer.build(candidate.path, candidate.recipe)
            runner = self.evaluator.open(candidate.path)
        except ModelError as error:
            self._candidates[number] = replace(candidate, comparison=None, error=str(error))
            return {}
        size = sum(file.stat().st_size for file in candidate.path.parent.iterdir())
        self._candidates[number] = replace(candidate, size_bytes=size, device=runner.device)
        return {number: runner}
