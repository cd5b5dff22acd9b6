"""The int8 formats: what the accuracy guard takes, or exactly what the user asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_runtime.errors import AccuracyError, ModelError, UsageError
from export.candidates import Budget, Candidate, Ladder, ladder_table
from export.formats import Source
from export.guard import Rungs, climb
from export.judge import Judge
from export.recipes import BASES, Recipe
from train.data import Dataset

Precision = Literal["guard", "w8a8", "w8a16", "mixed"]
_SINGLE_RUNS = 10


@dataclass(frozen=True)
class Int8Policy:
    """How int8 files are made.

    Attributes:
        budget: what the guard may lose.
        precision: ``guard`` searches; ``w8a8`` and ``w8a16`` quantize everything, ``mixed`` all but the worst
            branch, without asking what it costs.
        recipe: the user's own; goes before ``precision``.
        allow_drop: publish the nearest candidate when none is within the budget.
        validation: images that the model was tuned on; without them nothing can be guarded.
    """

    budget: Budget = field(default_factory=Budget)
    precision: Precision = "guard"
    recipe: Recipe | None = None
    allow_drop: bool = False
    validation: Dataset | None = None


@dataclass(frozen=True)
class Int8Choice:
    """What goes into the bundle, and the ladder it was taken from (None: nothing was measured)."""

    recipe: Recipe
    threshold: float
    candidate: Candidate | None
    ladder: Ladder | None


def write_int8(
    source: Source,
    runtime: str,
    path: Path,
    head: Path,
    policy: Int8Policy,
    threshold: float,
    scratch: Path,
    *,
    say: Callable[[str], None],
    progress: bool,
) -> Int8Choice:
    """Write the int8 backbone to ``path``; the head lies there already.

    Raises:
        AccuracyError: the guard found nothing within the budget; the message holds the whole ladder.
        ModelError: no candidate can be built or run.
        UsageError: the guard without validation images, or a recipe that matches nothing.
    """
    quantizer = source.quantizer(runtime)
    asked = policy.recipe or (Recipe(policy.precision) if policy.precision in BASES else None)
    if policy.validation is None:
        if asked is None:
            raise UsageError(
                "The accuracy guard needs the validation images of a run. For a bare .keras file choose "
                "--precision w8a8, which keeps no promise, or a --recipe."
            )
        quantizer.build(path, asked)
        return Int8Choice(asked, threshold, None, None)
    folder = scratch / f"ladder-{runtime}"
    exact = folder / f"backbone{quantizer.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    source.write_float(runtime, exact)
    size = source.model.input_size
    judge = Judge(policy.validation, size, runtime, head, exact, threshold, cache=source.cache, progress=progress)
    if asked is not None:
        rungs = Rungs(quantizer, judge, folder)
        rungs.add(f"{asked.precision}, as asked for", asked)
        ladder = rungs.ladder(policy.budget, runs=_SINGLE_RUNS)
        chosen = ladder.nearest
    else:
        ladder = climb(quantizer, judge, folder, policy.budget, progress=progress)
        chosen = _best_mix(ladder) if policy.precision == "mixed" else ladder.chosen
    say(ladder_table(ladder))
    if ladder.nearest is None:
        raise ModelError(f"No int8 candidate for {runtime} can be run: {ladder.candidates[0].error}")
    if chosen is None:
        chosen = _outside_budget(ladder, runtime, policy, say)
    for file in chosen.path.parent.iterdir():
        shutil.copyfile(file, path.with_name(file.name))
    assert chosen.comparison is not None
    return Int8Choice(chosen.recipe, chosen.comparison.threshold, chosen, ladder)


def _best_mix(ladder: Ladder) -> Candidate:
    """What ``--precision mixed`` takes: the mix with the fewest flips, then the fastest."""
    mixed = [c for c in ladder.candidates if c.recipe.precision == "mixed" and c.comparison is not None]
    if not mixed:
        raise UsageError(
            "--precision mixed: there is no mix, since plain w8a8 is within the budget already or this model has "
            "no second operator to keep in float."
        )
    return min(mixed, key=lambda c: (c.comparison.flipped if c.comparison else 0, c.p50_ms))


def _outside_budget(ladder: Ladder, runtime: str, policy: Int8Policy, say: Callable[[str], None]) -> Candidate:
    nearest = ladder.nearest
    assert nearest is not None
    if not policy.allow_drop:
        raise AccuracyError(
            f"No int8 candidate for {runtime} is within the budget.\n{ladder_table(ladder)}\n"
            f"  Nearest: {nearest.name}. Take it with --allow-drop, or widen --max-drop or --max-flips."
        )
    say(f"  --allow-drop: taking {nearest.name}, which is outside the budget")
    return nearest
