"""What the guard does otherwise for integer targets: options that fit, the compiler's word, an honest refusal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.errors import AccuracyError, UsageError
from sonoedge.export.formats import ExportFormat
from sonoedge.export.guard.candidate_table import CandidateTable, table_text
from sonoedge.export.quantize.quantizers import Quantizer
from sonoedge.export.quantize.recipes import Recipe, assignments
from sonoedge.export.targets.check import check_integers, fragile_parts
from sonoedge.export.targets.compilers import compiled_for, require_compiler
from sonoedge.export.targets.table import Target, target_called
from sonoedge.train.terminal import LOG


def checked_target(name: str, rows: Sequence[ExportFormat], precision: str, *, float16_weights: bool) -> Target:
    """The target of that name, its compiler found.

    Args:
        name: in `export.targets.table.TARGETS`.
        rows: the formats that are asked for.
        precision, float16_weights: options of the export.

    Raises:
        MissingExtraError: a compiler that pip can install is missing.
        UsageError: no such target, or the other options contradict it.
    """
    target = target_called(name)
    if not target.is_integer:
        return target
    if [row.name for row in rows if row.needs_calibration] != ["tflite-int8"]:
        raise UsageError(
            f"--target {name} needs the format tflite-int8, and no other int8 format. Received: "
            f"{', '.join(row.name for row in rows)}."
        )
    if precision not in {"guard", "w8a8"} or float16_weights:
        raise UsageError(
            f"--target {name} takes no float and no 16-bit operators: it goes with --precision guard or w8a8. "
            f"Received: {'--float16-weights' if float16_weights else precision}."
        )
    require_compiler(target)
    return target


def check_recipe(recipe: Recipe, quantizer: Quantizer, target: Target) -> None:
    """A user's recipe must quantize every operator (`UsageError`)."""
    others = sorted({*assignments(recipe, quantizer.operators).values(), recipe.base} - {"w8a8"})
    if others:
        raise UsageError(
            f"--target {target.name} takes w8a8 operators only; the recipe has {', '.join(others)}. "
            "Leave it out, or export with --target cpu."
        )


def on_target(path: Path, target: Target, scratch: Path) -> dict[str, Any]:
    """Check the file that was taken, compile it, and say what it costs there.

    Raises:
        ModelError: it is not int8 throughout, or the target cannot run all of it.
    """
    check_integers(path.read_bytes())
    report = compiled_for(path, target, scratch)
    LOG.info(f"  {target.name}: {report['text']}")
    return report


def nothing_within(table: CandidateTable, float_model: bytes, target: Target) -> AccuracyError:
    """The error if no file is within the budget: the candidates, and what helps without float operators."""
    assert table.nearest is not None
    fragile = fragile_parts(float_model)
    return AccuracyError(
        f"No file that is int8 throughout is within the budget, and {target.name} takes no float operators.\n"
        f"{table_text(table)}\n  Nearest: {table.nearest.name}. "
        + (f"int8 is known to harm {fragile}: train a student with ReLU6, mobilenet. " if fragile else "")
        + "Take the nearest with --allow-drop, widen --max-drop or --max-flips, or keep fragile operators in "
        "float with --target cpu."
    )
