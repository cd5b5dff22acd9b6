"""The accuracy guard: build a ladder of quantized candidates, measure each, take the fastest that decides the same.

Rungs: everything quantized; whole branches back in float, worst first; single stretches of operators back in float,
most harmful first. Harm is measured on the logit, never guessed from a layer's name. Every candidate runs in the
real interpreter over the validation images, against the float32 file of the same runtime.

The guard *chooses* by point estimates (accuracy and AUC drop, flipped decisions) and *says* PASS, FAIL or
INCONCLUSIVE from 95 % intervals: few images decide little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.backends import Float32Array, Runner, open_model
from edge_runtime.classifier import preprocess_file
from edge_runtime.errors import ModelError
from edge_runtime.latency import measure
from export.quantizers import Quantizer
from export.recipes import Recipe, recipe_for
from train.data import Dataset
from train.intervals import Interval
from train.metrics import (
    flip_rate,
    paired_accuracy_difference,
    paired_auc_difference,
    sigmoid,
)

Logits = NDArray[np.float64]
Maps = dict[str, Float32Array]
Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
_LATENCY_RUNS = 40
_SEARCH_IMAGES = 24
_STRETCHES = 24
_STEPS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Budget:
    """What may be lost: absolute drops in accuracy and AUC, share of decisions flipped."""

    max_drop: float = 0.01
    max_flips: float = 0.01


@dataclass(frozen=True)
class Candidate:
    """One rung, measured on the validation images against float32.

    Attributes:
        name: in words.
        recipe: what stays in float.
        path: the file.
        logits: float64 (N,).
        threshold: probability, refitted to the full model's sensitivity where quantization had changed it.
        flipped: decisions that differ.
        flips, accuracy_difference, auc_difference: with 95 % intervals; negative is a loss.
        p50_ms: median latency of the backbone.
        error: why it could not be run, for example an operator that the interpreter lacks.
    """

    name: str
    recipe: Recipe
    path: Path
    logits: Logits
    threshold: float
    flipped: int
    flips: Interval
    accuracy_difference: Interval
    auc_difference: Interval
    size_bytes: int
    p50_ms: float = float("nan")
    error: str = ""

    def within(self, budget: Budget) -> bool:
        """Whether the point estimates are within the budget."""
        slack = 1e-12
        return (
            not self.error
            and -self.accuracy_difference.value <= budget.max_drop + slack
            and -self.auc_difference.value <= budget.max_drop + slack
            and self.flips.value <= budget.max_flips + slack
        )

    def verdict(self, budget: Budget) -> Verdict:
        """PASS when even the unfavourable ends of the intervals are within the budget."""
        if not self.within(budget):
            return "FAIL"
        sure = (
            -self.accuracy_difference.low <= budget.max_drop
            and -self.auc_difference.low <= budget.max_drop
            and self.flips.high <= budget.max_flips
        )
        return "PASS" if sure else "INCONCLUSIVE"

    def to_json(self, budget: Budget) -> dict[str, Any]:
        """Figures for the bundle."""
        return {
            "candidate": self.name,
            "verdict": self.verdict(budget),
            "images": len(self.logits),
            "flipped": self.flipped,
            "flips": _rounded(self.flips),
            "accuracy_difference": _rounded(self.accuracy_difference),
            "auc_difference": _rounded(self.auc_difference),
            "p50_ms": self.p50_ms if np.isfinite(self.p50_ms) else None,
            "budget": asdict(budget),
        }


@dataclass(frozen=True)
class Ladder:
    """All rungs and the one that was taken (None: nothing is within the budget)."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    budget: Budget
    float_p50_ms: float

    @property
    def nearest(self) -> Candidate:
        """The candidate with the fewest flips, then the smallest loss."""
        runnable = [c for c in self.candidates if not c.error]
        return min(runnable, key=lambda c: (c.flipped, -c.accuracy_difference.value, -c.auc_difference.value))


class Judge:
    """The validation images, the float head and the float32 reference of one runtime.

    Args:
        dataset: validation images.
        size: (height, width) of the input.
        head: open float32 head of the same runtime.
        float_backbone: open float32 backbone.
        threshold: probability of the full model.
    """

    def __init__(
        self,
        dataset: Dataset,
        size: tuple[int, int],
        head: Runner,
        float_backbone: Runner,
        threshold: float,
        *,
        progress: bool,
    ) -> None:
        self.dataset, self.threshold = dataset, threshold
        self._size, self._head, self._float, self._progress = size, head, float_backbone, progress
        self.reference = self.logits(float_backbone, "float32 on validation")

    def logits(self, backbone: Runner, name: str) -> Logits:
        """Logits (N,) of all validation images."""
        paths = [sample.path for sample in self.dataset.samples]
        bar = tqdm(paths, desc=name, unit="img", disable=not self._progress, leave=False)
        return np.array([self._logit(backbone.run({"image": preprocess_file(path, self._size)})) for path in bar])

    def branch_harm(self, backbone: Runner, inputs: Sequence[Float32Array]) -> dict[str, float]:
        """By branch, mean squared logit error when only that branch is quantized."""
        harm = dict.fromkeys(backbone.output_shapes, 0.0)
        for model_input in inputs:
            exact, rough = self._float.run({"image": model_input}), backbone.run({"image": model_input})
            wanted = self._logit(exact)
            for name in harm:
                harm[name] += (self._logit({**exact, name: rough[name]}) - wanted) ** 2 / len(inputs)
        return harm

    def logit_error(self, backbone: Runner, inputs: Sequence[Float32Array], wanted: Sequence[float]) -> float:
        """Mean squared logit error over a few inputs."""
        found = [self._logit(backbone.run({"image": model_input})) for model_input in inputs]
        return float(np.mean((np.array(found) - np.array(wanted)) ** 2))

    def float_logits(self, inputs: Sequence[Float32Array]) -> list[float]:
        """Float32 logits of a few inputs."""
        return [self._logit(self._float.run({"image": model_input})) for model_input in inputs]

    def candidate(self, name: str, recipe: Recipe, path: Path, backbone: Runner) -> Candidate:
        """Measure a built candidate on all validation images."""
        logits = self.logits(backbone, name)
        threshold = refit_threshold(self.dataset.y, self.reference, logits, self.threshold)
        return compare(name, recipe, path, self.dataset, (self.reference, self.threshold), (logits, threshold))

    def _logit(self, maps: Mapping[str, Float32Array]) -> float:
        return float(self._head.run(maps)["logit"].reshape(()))


def climb(
    quantizer: Quantizer,
    judge: Judge,
    folder: Path,
    search_inputs: Sequence[Float32Array],
    budget: Budget,
    *,
    threads: int | None = None,
    progress: bool,
) -> Ladder:
    """Build and measure the rungs, and take the fastest within the budget.

    Args:
        quantizer: builds candidates.
        judge: measures them.
        folder: where candidates are written.
        search_inputs: a few calibration inputs, float32 (1, H, W, 3), for finding out what harms.
        budget: what may be lost.
    """
    rungs = _Rungs(quantizer, judge, folder, threads)
    everything = rungs.add("w8a8, all operators", frozenset())
    if not everything.within(budget):
        inputs = list(search_inputs)[:_SEARCH_IMAGES]
        sets = list(_branch_sets(quantizer, judge, rungs.open(everything), inputs))
        for name, names in sets:
            rungs.add(name, names)
        if quantizer.cheap:
            fragile = sets[0][1] if sets else frozenset(op.name for op in quantizer.operators)
            _restore_operators(rungs, fragile, inputs, budget, progress=progress)
    timed = rungs.timed()
    passing = [c for c in timed.candidates if c.within(budget)]
    chosen = min(passing, key=lambda c: c.p50_ms) if passing else None
    return Ladder(timed.candidates, chosen, budget, timed.float_p50_ms)


def compare(
    name: str,
    recipe: Recipe,
    path: Path,
    dataset: Dataset,
    reference: tuple[Logits, float],
    candidate: tuple[Logits, float],
) -> Candidate:
    """Paired comparison of (logits, threshold) with the reference's on the same images."""
    y = dataset.y
    theirs = sigmoid(reference[0]) >= reference[1]
    ours = sigmoid(candidate[0]) >= candidate[1]
    return Candidate(
        name=name,
        recipe=recipe,
        path=path,
        logits=candidate[0],
        threshold=candidate[1],
        flipped=int((ours != theirs).sum()),
        flips=flip_rate(theirs, ours),
        accuracy_difference=paired_accuracy_difference(theirs == y, ours == y),
        auc_difference=paired_auc_difference(y, reference[0], candidate[0], dataset.groups),
        size_bytes=sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*")),
    )


def refit_threshold(y: NDArray[np.int64], reference: Logits, logits: Logits, threshold: float) -> float:
    """The artifact's probability threshold: the full model's, or refitted on validation to its sensitivity.

    Of the thresholds with the full model's sensitivity, the one with the fewest flipped decisions, and of those the
    nearest to the full model's: a threshold does not move for nothing. One number fitted to the validation images,
    on which it is also judged: a little optimistic, as every validation figure is.
    """
    decisions = sigmoid(reference) >= threshold
    positive = y == 1
    wanted = int(decisions[positive].sum())
    scores = sigmoid(logits)
    ranked = np.unique(scores)
    cuts = np.concatenate([[threshold], (ranked[1:] + ranked[:-1]) / 2])
    cuts = cuts[[int((scores[positive] >= cut).sum()) == wanted for cut in cuts]]
    if not cuts.size:
        return threshold
    flips = np.array([int(((scores >= cut) != decisions).sum()) for cut in cuts])
    best = cuts[flips == flips.min()]
    return float(best[np.argmin(np.abs(best - threshold))])


class _Rungs:
    """Builds, opens and measures candidates; one that the interpreter refuses is kept with its reason."""

    def __init__(self, quantizer: Quantizer, judge: Judge, folder: Path, threads: int | None) -> None:
        self.quantizer, self.judge, self._folder, self._threads = quantizer, judge, folder, threads
        self._candidates: list[Candidate] = []
        self._runners: dict[Path, Runner] = {}

    def build(self, keep_float: frozenset[str], name: str = "trial") -> Path:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"backbone{self.quantizer.suffix}"
        self.quantizer.build(path, keep_float)
        return path

    def open(self, candidate: Candidate) -> Runner:
        return self._runners[candidate.path]

    def run_trial(self, keep_float: frozenset[str]) -> Runner:
        return open_model(self.build(keep_float), self.quantizer.runtime, threads=self._threads)

    def add(self, name: str, keep_float: frozenset[str]) -> Candidate:
        path = self.build(keep_float, f"rung-{len(self._candidates)}")
        recipe = recipe_for(keep_float, self.quantizer.operators)
        try:
            runner = open_model(path, self.quantizer.runtime, threads=self._threads)
        except ModelError as error:
            undefined = Interval(float("nan"), float("nan"), float("nan"))
            none = np.full(len(self.judge.reference), np.nan)
            candidate = Candidate(
                name,
                recipe,
                path,
                none,
                self.judge.threshold,
                0,
                undefined,
                undefined,
                undefined,
                0,
                error=str(error),
            )
        else:
            self._runners[path] = runner
            candidate = self.judge.candidate(name, recipe, path, runner)
        self._candidates.append(candidate)
        return candidate

    def timed(self) -> Ladder:
        """All candidates with latency, measured in one interleaved run together with float32."""
        from dataclasses import replace

        frame = {"image": np.zeros((1, *self.judge._size, 3), np.float32)}

        def call(runner: Runner) -> Callable[[], Any]:
            return lambda: runner.run(frame)

        calls = {str(path): call(runner) for path, runner in self._runners.items()}
        latency = measure({"float32": call(self.judge._float), **calls}, runs=_LATENCY_RUNS)
        timed = tuple(
            replace(c, p50_ms=latency[str(c.path)].p50_ms) if str(c.path) in latency else c
            for c in self._candidates
        )
        return Ladder(timed, None, Budget(), latency["float32"].p50_ms)


def _branch_sets(
    quantizer: Quantizer, judge: Judge, quantized: Runner, inputs: Sequence[Float32Array]
) -> list[tuple[str, frozenset[str]]]:
    """Branches to keep in float: the worst, the worst two, …; never all of them."""
    harm = judge.branch_harm(quantized, inputs)
    ranked = sorted(harm, key=lambda branch: -harm[branch])
    sets = []
    for count in range(1, len(ranked)):
        kept = set(ranked[:count])
        names = frozenset(op.name for op in quantizer.operators if op.branches and op.branches <= kept)
        sets.append((f"mixed by branch, {' + '.join(ranked[:count])} float", names))
    return sets


def _restore_operators(
    rungs: _Rungs, fragile: frozenset[str], inputs: Sequence[Float32Array], budget: Budget, *, progress: bool
) -> None:
    """Put the most harmful stretches of consecutive operators back into float until the budget holds."""
    names = [op.name for op in rungs.quantizer.operators if op.name in fragile]
    count = min(_STRETCHES, len(names))
    stretches = [frozenset(part) for part in np.array_split(np.array(names, object), count)] if count else []
    wanted = rungs.judge.float_logits(inputs)
    errors = []
    for stretch in tqdm(stretches, desc="sensitivity of operators", disable=not progress, leave=False):
        errors.append(rungs.judge.logit_error(rungs.run_trial(stretch), inputs, wanted))
    order = np.argsort(errors)
    for steps in _STEPS:
        if steps >= len(stretches):
            break
        kept: frozenset[str] = frozenset().union(*(stretches[i] for i in order[:steps]))
        candidate = rungs.add(f"mixed by operator, {len(kept)} of {len(rungs.quantizer.operators)} float", kept)
        if candidate.within(budget):
            break


def _rounded(interval: Interval) -> list[float]:
    return [round(float(value), 5) for value in (interval.value, interval.low, interval.high)]


def ladder_table(ladder: Ladder) -> str:
    """The whole ladder as a table for the terminal."""
    n = len(ladder.candidates[0].logits)
    lines = [
        f"  {'candidate':<46}{'MB':>7}{'p50 ms':>8}{'flipped':>9}  {'95 % CI':<15}{'accuracy':>9}{'AUC':>9}  "
        "verdict"
    ]
    for c in ladder.candidates:
        if c.error:
            lines.append(f"  {c.name:<46}skipped: {c.error}")
            continue
        interval = f"{100 * c.flips.low:.1f}–{100 * c.flips.high:.1f} %"
        mark = " <- taken" if c is ladder.chosen else ""
        lines.append(
            f"  {c.name:<46}{c.size_bytes / 1e6:>7.1f}{c.p50_ms:>8.1f}{f'{c.flipped}/{n}':>9}  {interval:<15}"
            f"{c.accuracy_difference.value:>+9.4f}{c.auc_difference.value:>+9.4f}  {c.verdict(ladder.budget)}{mark}"
        )
    budget = ladder.budget
    lines.append(
        f"  {n} validation images; float32 {ladder.float_p50_ms:.1f} ms; budget: accuracy and AUC drop "
        f"{budget.max_drop:g}, flips {100 * budget.max_flips:g} %"
    )
    return "\n".join(lines)
