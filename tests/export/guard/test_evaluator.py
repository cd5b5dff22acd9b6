"""The evaluator measures a whole file on few images only if it may."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from sonoedge.edge_runtime.backends import Runner
from sonoedge.export.guard.evaluator import CHECKED_IMAGES, PARTS_TOLERANCE, Evaluator
from sonoedge.export.quantize.recipes import Recipe
from tests.helpers.int8_models import SIZE, Bench


@pytest.mark.parametrize(("parts_by", "runs"), [("percentile", CHECKED_IMAGES), ("extremes", 60)])
def test_a_whole_file_runs_on_few_images_only_if_it_gives_what_its_branches_gave(
    parts_by: str, runs: int, broken: Bench, tmp_path: Path
) -> None:
    """Either way the figures are those of the whole file."""
    known, head = broken.evaluator, broken.folder / "head.tflite"
    evaluator, afresh = (
        Evaluator(known.dataset, (SIZE, SIZE), "tflite", head, known.float_path, 0.5, cache=tmp_path / name)
        for name in ("cache", "other")
    )
    quantizer, whole = broken.source.quantizer("tflite"), tmp_path / "whole.tflite"
    quantizer.build(whole, Recipe(ranges="percentile"))
    parts = {branch: tmp_path / f"{branch}.tflite" for branch in evaluator.branches}
    for branch, path in parts.items():
        quantizer.build(path, Recipe(ranges=parts_by), branch)
    counted = Counting(evaluator.open(whole))
    found = evaluator.compare(whole, counted, "whole", parts)
    assert counted.runs == runs
    np.testing.assert_allclose(
        found.logits, afresh.compare(whole, afresh.open(whole), "whole").logits, atol=PARTS_TOLERANCE
    )
    # What the gate looks at is kept with them, in the order asked for.
    names = list(evaluator.branches)[::-1]
    features, exact = (j.features(whole, j.open(whole), names) for j in (evaluator, afresh))
    assert features.keys() == {sample.sha256 for sample in known.dataset.samples}
    for digest, row in features.items():
        np.testing.assert_allclose(row, exact[digest], atol=1e-5)


class Counting:
    """An open backbone that counts its calls."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self.runs = runner, 0

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.runs += 1
        return self._runner.run(inputs)
