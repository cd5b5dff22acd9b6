"""The int8 formats: what the accuracy guard takes, or exactly what the user asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from edge_runtime.backends import open_model
from edge_runtime.errors import AccuracyError, UsageError
from export.formats import Source
from export.guard import Budget, Candidate, Judge, Ladder, climb, ladder_table
from export.quantizers import Quantizer
from export.recipes import Recipe, float_operators
from train.data import Dataset

Precision = Literal["guard", "w8a8", "w8a16", "mixed"]
PRECISIONS: tuple[Precision, ...] = ("guard", "w8a8", "w8a16", "mixed")
_SEARCH_IMAGES = 24


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
        UsageError: the guard without validation images, or a recipe that matches nothing.
    """
    quantizer = source.quantizer(runtime)
    if policy.recipe is not None or policy.precision in {"w8a8", "w8a16"}:
        recipe = policy.recipe or Recipe("w8a16" if policy.precision == "w8a16" else "w8a8")
        if recipe.base == "w8a16" and runtime != "tflite":
            raise UsageError("w8a16 is a TensorFlow Lite precision; OpenVINO has w8a8.")
        quantizer.build(path, float_operators(recipe, quantizer.operators), recipe.base)
        if policy.validation is None:
            return Int8Choice(recipe, threshold, None, None)
        judge = _judge(source, runtime, head, policy.validation, threshold, scratch, progress)
        backbone = open_model(path, runtime)
        candidate = judge.candidate(recipe.precision, recipe, path, backbone)
        return Int8Choice(recipe, candidate.threshold, candidate, None)
    if policy.validation is None:
        raise UsageError(
            "The accuracy guard needs the validation images of a run. For a bare .keras file choose "
            "--precision w8a8, which keeps no promise, or a --recipe."
        )
    judge = _judge(source, runtime, head, policy.validation, threshold, scratch, progress)
    ladder = _climb(source, quantizer, judge, policy, scratch, progress)
    say(ladder_table(ladder))
    chosen = ladder.chosen
    if chosen is None:
        nearest = ladder.nearest
        if not policy.allow_drop:
            raise AccuracyError(
                f"No int8 candidate for {runtime} is within the budget.\n{ladder_table(ladder)}\n"
                f"  Nearest: {nearest.name}. Take it with --allow-drop, or widen --max-drop or --max-flips."
            )
        say(f"  --allow-drop: taking {nearest.name}, which is outside the budget")
        chosen = nearest
    for file in chosen.path.parent.iterdir():
        shutil.copyfile(file, path.with_name(file.name))
    return Int8Choice(chosen.recipe, chosen.threshold, chosen, ladder)


def _climb(
    source: Source, quantizer: Quantizer, judge: Judge, policy: Int8Policy, scratch: Path, progress: bool
) -> Ladder:
    inputs = list(islice(source.calibration.inputs(source.model.input_size), _SEARCH_IMAGES))
    folder = scratch / f"ladder-{quantizer.runtime}"
    ladder = climb(quantizer, judge, folder, inputs, policy.budget, progress=progress)
    if policy.precision != "mixed":
        return ladder
    mixed = [c for c in ladder.candidates if c.recipe.precision == "mixed" and not c.error]
    if not mixed:
        raise UsageError("--precision mixed: this model has no second branch or operator to keep in float.")
    return replace(ladder, chosen=min(mixed, key=lambda c: (c.flipped, c.p50_ms)))


def _judge(
    source: Source, runtime: str, head: Path, validation: Dataset, threshold: float, scratch: Path, progress: bool
) -> Judge:
    folder = scratch / f"float-{runtime}"
    folder.mkdir(parents=True, exist_ok=True)
    exact = folder / f"backbone{head.suffix}"
    source.write_float(runtime, exact)
    return Judge(
        validation,
        source.model.input_size,
        open_model(head, runtime, threads=1),
        open_model(exact, runtime),
        threshold,
        progress=progress,
    )
