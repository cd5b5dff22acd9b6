"""Write the int8 formats: the file that the accuracy guard takes, or exactly the one that the user asked for."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from sonoedge.edge_runtime.errors import AccuracyError, ModelError, UsageError
from sonoedge.edge_runtime.types import Float32Array
from sonoedge.export.formats import Source
from sonoedge.export.guard.agreement import AgreementFrames
from sonoedge.export.guard.builder import CandidateBuilder
from sonoedge.export.guard.candidate_table import Candidate, CandidateTable, table_text
from sonoedge.export.guard.comparison import Budget
from sonoedge.export.guard.evaluator import Evaluator
from sonoedge.export.guard.integers import check_recipe, nothing_within, on_target
from sonoedge.export.guard.search import search_candidates
from sonoedge.export.quantize.quantizers import Quantizer
from sonoedge.export.quantize.recipes import BASES, FLOAT16, Recipe, Rule
from sonoedge.export.targets.table import CPU, Target
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.terminal import LOG

Precision = Literal["guard", "w8a8", "w8a16", "mixed"]
_SINGLE_RUNS = 10
_REPORT_IMAGES = 16


@dataclass(frozen=True)
class Int8Policy:
    """How int8 files are made.

    Attributes:
        budget: what the guard may lose.
        precision: ``guard`` searches; ``w8a8`` and ``w8a16`` quantize everything; ``mixed`` takes the best mix,
            whatever it costs.
        recipe: the user's own; replaces ``precision``.
        allow_drop: publish the nearest candidate if none is within the budget.
        validation: images that the model was tuned on; without them nothing can be guarded.
        layer_report: folder for the error of every tensor.
        float16_weights: store the operators that the guard spares as float16 for every runtime.
        agreement: unlabelled frames on which the published file is compared with float32, too.
        target: what TensorFlow Lite files are made for; the CPU may calculate in float.
    """

    budget: Budget = field(default_factory=Budget)
    precision: Precision = "guard"
    recipe: Recipe | None = None
    allow_drop: bool = False
    validation: Dataset | None = None
    layer_report: Path | None = None
    float16_weights: bool = False
    agreement: AgreementFrames | None = None
    target: Target = CPU


@dataclass(frozen=True)
class Int8Choice:
    """What goes into the bundle.

    Attributes:
        recipe: builds the same file again.
        threshold: probability.
        candidate: the one that was taken; None if nothing was measured.
        table: all candidates; None if nothing was measured.
        activations: the audit of the activation ranges.
        features: of the validation images through the file (`export.guard.evaluator.Evaluator.features`); None if
            nothing was measured.
        target: what the compiler of an integer target says (`export.targets.compilers.compiled_for`); None for
            processors.
    """

    recipe: Recipe
    threshold: float
    candidate: Candidate | None
    table: CandidateTable | None
    activations: dict[str, Any]
    features: dict[str, Float32Array] | None = None
    target: dict[str, Any] | None = None

    @property
    def dtype(self) -> str:
        """Of the backbone's input and outputs."""
        return "float32" if self.target is None else "int8"


def write_int8(
    source: Source,
    runtime: str,
    path: Path,
    head: Path,
    policy: Int8Policy,
    threshold: float,
    scratch: Path,
    *,
    progress: bool,
) -> Int8Choice:
    """Write the int8 backbone; its float32 head must be written before.

    Args:
        source: the model on its way to files.
        runtime: ``tflite`` or ``openvino``.
        path: of the backbone.
        head: path of the head.
        policy: how to quantize.
        threshold: probability threshold of the full model.
        scratch: folder for candidates.
        progress: show bars.

    Raises:
        AccuracyError: no candidate is within the budget, or the chosen one flips too many frames; the message says
            what to do.
        ModelError: no candidate can be built or run, or the target cannot run the file.
        UsageError: the guard without validation images, or a recipe that matches nothing.
    """
    quantizer = source.quantizer(runtime, policy.target)
    if policy.float16_weights:
        quantizer.spared = FLOAT16
    asked = policy.recipe or (Recipe(policy.precision) if policy.precision in BASES else None)
    if asked is not None and policy.target.is_integer:
        check_recipe(asked, quantizer, policy.target)
    if policy.validation is None:
        if asked is None:
            raise UsageError(
                "The accuracy guard needs the validation images of a run. For a bare .keras file choose "
                "--precision w8a8, which keeps no promise, or a --quantization-recipe."
            )
        quantizer.build(path, asked)
        recipe, chosen, table, own, features = asked, None, None, threshold, None
    else:
        evaluator, exact = _evaluator(source, runtime, head, policy, threshold, scratch, progress=progress)
        if asked is not None:
            builder = CandidateBuilder(quantizer, evaluator, exact.parent)
            builder.add(f"{asked.precision}, as asked for", asked)
            table = builder.table(policy.budget, runs=_SINGLE_RUNS)
        else:
            mix, spare = policy.precision == "mixed", not policy.target.is_integer
            table = search_candidates(
                quantizer, evaluator, exact.parent, policy.budget, mix=mix, spare=spare, progress=progress
            )
        free = asked is not None or policy.precision == "mixed"
        chosen = _choose(table, source, runtime, policy, asked_for=asked is not None)
        chosen = _with_frames(chosen, evaluator, policy)
        _check_frames(chosen, policy, free=free)
        for file in chosen.path.parent.iterdir():
            shutil.copyfile(file, path.with_name(file.name))
        assert chosen.comparison is not None
        recipe, own = chosen.recipe, chosen.comparison.threshold
        names = [branch.name for branch in source.model.head.branches]
        features = evaluator.features(chosen.path, evaluator.open(chosen.path), names)
        del evaluator  # with its open float32 backbone: the layer report opens two of its own
    activations = quantizer.audit(recipe)
    for warning in activations["warnings"]:
        LOG.warning(f"{runtime}-int8: {warning}")
    target = on_target(path, policy.target, scratch) if policy.target.is_integer else None
    if policy.layer_report is not None:
        files = {"taken": path} | ({"w8a8": table.candidates[0].path} if table and asked is None else {})
        _report_layers(policy.layer_report, quantizer, source, scratch, files)
    return Int8Choice(recipe, own, chosen, table, activations, features, target)


def measure_written(
    source: Source, runtime: str, backbone: Path, head: Path, policy: Int8Policy, threshold: float, scratch: Path
) -> Candidate:
    """Compare a backbone that was written without a search with float32 on the validation images.

    The arguments are those of `write_int8`; ``backbone`` is the written file.
    """
    evaluator, _ = _evaluator(source, runtime, head, policy, threshold, scratch, progress=False)
    runner = evaluator.open(backbone)
    found = evaluator.compare(backbone, runner, backbone.parent.name)
    size = sum(file.stat().st_size for file in backbone.parent.glob(f"{backbone.stem}.*"))
    measured = Candidate(backbone.parent.name, Recipe(), backbone, size, found, device=runner.device)
    return _with_frames(measured, evaluator, policy)


def _with_frames(candidate: Candidate, evaluator: Evaluator, policy: Int8Policy) -> Candidate:
    """The candidate, also compared with float32 on the unlabelled frames if there are any."""
    if policy.agreement is None:
        return candidate
    return policy.agreement.add_to(
        candidate, evaluator.on(policy.agreement.dataset), evaluator.open(candidate.path)
    )


def _check_frames(chosen: Candidate, policy: Int8Policy, *, free: bool) -> None:
    """Print the flips on the frames; raise `AccuracyError` if they take the guard's file out of the budget."""
    found = chosen.comparison
    if found is None or found.frames is None:
        return
    limit = policy.budget.max_flips
    LOG.info(f"  unlabelled frames: {found.frames.words(limit)}")
    LOG.info(
        f"  with the validation images: {found.all_flips.counted_words()}; verdict "
        f"{found.verdict(policy.budget)}{found.open_words(policy.budget)}"
    )
    if found.frames.share > limit and not (free or policy.allow_drop):
        raise AccuracyError(
            f"{chosen.name} holds the budget on validation images, not on the frames of --agreement-data: "
            f"{found.frames.words(limit)}. Take it with --allow-drop, or widen --max-flips."
        )


def _evaluator(
    source: Source, runtime: str, head: Path, policy: Int8Policy, threshold: float, scratch: Path, *, progress: bool
) -> tuple[Evaluator, Path]:
    """Write the float32 backbone; returns the evaluator that compares with it, and its path."""
    exact = scratch / f"candidates-{runtime}" / f"backbone{head.suffix}"
    exact.parent.mkdir(parents=True, exist_ok=True)
    source.write_float(runtime, exact)
    assert policy.validation is not None
    size = source.model.input_size
    evaluator = Evaluator(
        policy.validation, size, runtime, head, exact, threshold, cache=source.cache, progress=progress
    )
    return evaluator, exact


def _choose(
    table: CandidateTable, source: Source, runtime: str, policy: Int8Policy, *, asked_for: bool
) -> Candidate:
    """The candidate to publish."""
    if table.nearest is None:
        raise ModelError(f"No int8 candidate for {runtime} can be run: {table.candidates[0].error}")
    if asked_for:
        LOG.info(table_text(table))
        return table.nearest
    chosen = _best_mix(table) if policy.precision == "mixed" else table.chosen
    slow = [c for c in table.candidates if c.within(policy.budget) and not table.is_fast(c)]
    if chosen is None and slow and not policy.allow_drop:
        raise AccuracyError(
            f"No int8 candidate for {runtime} that keeps the budget is {table.min_speedup:g} times as fast as "
            f"float32.\n{table_text(table)}\n  Take the float16 file instead: --format {runtime}-fp16."
        )
    if chosen is None and not policy.allow_drop and policy.target.is_integer:
        raise nothing_within(table, source.tflite_float, policy.target)
    if chosen is None and not policy.allow_drop:
        raise AccuracyError(
            f"No int8 candidate for {runtime} is within the budget.\n{table_text(table)}\n"
            f"  Nearest: {table.nearest.name}. {runtime}-fp16 keeps the decisions at half of float32's size: "
            f"--format {runtime}-fp16. Or take the nearest with --allow-drop, or widen --max-drop or --max-flips."
        )
    LOG.info(table_text(table))
    if chosen is None:
        LOG.info(f"  --allow-drop: taking {table.nearest.name}, which is outside the budget")
    return chosen or table.nearest


def _best_mix(table: CandidateTable) -> Candidate:
    """The candidate that ``--precision mixed`` takes: the mix with the fewest flips, then the fastest."""
    mixed = [c for c in table.candidates if c.recipe.precision == "mixed" and c.comparison is not None]
    if not mixed:
        raise UsageError("--precision mixed: no mix of this model can be built and run.")
    return min(mixed, key=lambda c: (c.comparison.flipped if c.comparison else 0, c.p50_ms))


def _report_layers(
    folder: Path, quantizer: Quantizer, source: Source, scratch: Path, files: dict[str, Path]
) -> None:
    from sonoedge.export.guard.layer_report import layer_errors, write_layer_report

    exact = scratch / f"float-{quantizer.runtime}" / f"backbone{quantizer.suffix}"
    exact.parent.mkdir(parents=True, exist_ok=True)
    # Not the source's: for an integer target the float graph has other operators (`export.targets.division`).
    quantizer.build(exact, Recipe(rules=(Rule("."),)))
    inputs = list(islice(source.calibration.inputs(source.model.input_size), _REPORT_IMAGES))
    for name, path in files.items():
        layers = layer_errors(quantizer.runtime, exact, path, quantizer.operators, inputs)
        stem = f"{quantizer.runtime}-int8.{name}"
        title = f"{quantizer.runtime} int8, {name}: error against float32 on {len(inputs)} images"
        words = write_layer_report(folder, stem, title, layers)
        LOG.info(
            f"  layer report {folder / stem}.json and .png; {'; '.join(words[:3]) or 'no operator stands out'}"
        )
