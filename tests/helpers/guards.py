"""Comparisons and candidates with chosen figures, and how the guard is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sonoedge.edge_runtime.files import write_bytes_atomic
from sonoedge.edge_runtime.proportion import GroupedCount
from sonoedge.export.convert.graphs import pack_tflite, parse_tflite
from sonoedge.export.guard.candidates import Candidate
from sonoedge.export.guard.comparison import Budget, Comparison
from sonoedge.export.guard.int8 import Int8Policy, write_int8
from sonoedge.export.quantize.quantizers import TFLiteQuantizer
from sonoedge.export.quantize.recipes import Recipe
from sonoedge.train.evaluation.intervals import Interval

if TYPE_CHECKING:
    from tests.helpers.int8_models import Bench

LOOSE = Budget(0.04, 0.04)
"""The small model's logits crowd around the threshold; its fragile branch flips 13 %."""


def comparison(flipped: int, error: float, accuracy: float = 0.0, auc: float = 0.0) -> Comparison:
    flips = GroupedCount.of(np.arange(100) < flipped, None)
    return Comparison(np.zeros(100), 0.5, flips, Interval(accuracy, -1, 1), Interval(auc, -1, 1), error)


def candidate(name: str, p50_ms: float, found: Comparison | None, error: str = "") -> Candidate:
    return Candidate(name, Recipe(), Path(name), 1, found, error, p50_ms)


SURE = Interval(0.0, -0.001, 0.001)


def counted(flipped: int, images: int, copies: int = 1) -> GroupedCount:
    return GroupedCount.of(np.arange(images) < flipped, [f"g{i // copies:05d}" for i in range(images)])


def int8(place: Bench, policy: Int8Policy, out: Path, lines: list[str]) -> object:
    out.mkdir()
    (out / "scratch").mkdir()
    return write_int8(
        place.source, "tflite", out / "backbone.tflite", place.folder / "head.tflite", policy,
        place.evaluator.threshold, out / "scratch", say=lines.append, progress=False,
    )  # fmt: skip


class Lacking(TFLiteQuantizer):
    """Candidates with an operator that no interpreter has: all of them, or only the plain one."""

    everything = False

    def build(self, path: Path, recipe: Recipe, branch: str | None = None) -> None:
        super().build(path, recipe, branch)
        if branch is None and (self.everything or recipe.precision == "w8a8"):
            model = parse_tflite(path.read_bytes())
            code = model.operatorCodes[model.subgraphs[0].operators[-1].opcodeIndex]
            code.builtinCode = code.deprecatedBuiltinCode = 32  # CUSTOM
            code.customCode = "FancySwish"
            write_bytes_atomic(path, pack_tflite(model))


def lacking(place: Bench) -> Lacking:
    return Lacking(place.source.tflite_float, place.source.activations)
