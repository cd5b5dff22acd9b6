"""Retention of explanations: which verdict the cosines of a run's heat maps deserve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoedge.benchmarks.measure.opening import Spec
from sonoedge.benchmarks.measure.workers import Worker
from sonoedge.benchmarks.records.runfile import Run
from sonoedge.benchmarks.retention.explanations import explained, median_interval
from sonoedge.benchmarks.retention.heatmaps import agreement
from sonoedge.benchmarks.retention.regression import Limits, compare_reports
from sonoedge.benchmarks.retention.results import result
from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.edge_runtime.model.classifier import preprocess_file
from tests.helpers.measured_runs import FULL, candidate, make_run

Y = [0, 1] * 20


def run_with(cosines: list[float | None], precision: str = "w8a8") -> Run:
    logits = np.where(np.array(Y) == 1, 2.0, -2.0)
    files = [
        candidate(FULL, "full", logits=logits, precision="fp32", heatmap_cosine=(1.0,) * len(Y)),
        candidate("small", logits=logits, precision=precision, heatmap_cosine=tuple(cosines)),
    ]
    return make_run(Y, files, heatmap_reference=FULL)


@pytest.mark.parametrize(
    ("cosines", "precision", "verdict"),
    [
        ([0.995] * 40, "w8a8", "PASS"),
        ([0.995] * 40, "fp32", "FAIL"),
        ([1.0] * 40, "fp32", "PASS"),
        ([0.9] * 40, "w8a8", "FAIL"),
        ([0.99] * 22 + [0.9] * 18, "w8a8", "INCONCLUSIVE"),
        ([0.99] * 18 + [None] * 22, "w8a8", "INCONCLUSIVE"),
        ([None] * 40, "w8a8", "FAIL"),
    ],
)
def test_verdicts(cosines: list[float | None], precision: str, verdict: str) -> None:
    run = run_with(cosines, precision)
    found = explained(run, run.candidate("small"))
    assert found is not None
    assert (found.verdict, found.lost, found.images) == (verdict, cosines.count(None), 40)
    assert found.low <= found.cosine.value
    assert result(run).row("small").headline.count(verdict) == 1


def test_nothing_to_compare() -> None:
    run = run_with([1.0] * 40)
    assert explained(run, run.candidate(FULL)) is None
    assert explained(replace(run, heatmap_reference=None), run.candidate("small")) is None
    assert explained(run, replace(run.candidate("small"), heatmap_cosine=None)) is None


@settings(max_examples=40)
@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    groups=st.lists(st.integers(0, 9), min_size=30, max_size=30),
)
def test_the_interval_holds_the_median(values: list[float], groups: list[int]) -> None:
    y = np.arange(len(values)) % 2
    found = median_interval(np.array(values), y, [str(g) for g in groups[: len(values)]])
    assert 0 <= found.low <= found.value == np.median(values) <= found.high <= 1
    if len(values) < 6:
        assert (found.low, found.high) == (0.0, 1.0)  # five images bound no median


@pytest.mark.long
def test_the_interval_covers() -> None:
    """Of 200 samples of a known distribution, about 95 % of the intervals hold its median."""
    rng = np.random.default_rng(5)
    y, groups = np.arange(30) % 2, [str(i) for i in range(30)]
    found = [median_interval(rng.beta(8, 2, 30), y, groups) for _ in range(200)]
    from scipy.stats import beta

    middle = float(beta(8, 2).median())
    assert np.mean([i.low <= middle <= i.high for i in found]) >= 0.92


def test_maps_on_different_grids() -> None:
    coarse = np.array([[0.0, 1.0], [0.0, 0.0]], np.float32)
    fine = np.kron(coarse, np.ones((2, 2), np.float32))
    zero = np.zeros((2, 2), np.float32)
    same, lost, both, grids = agreement([coarse, coarse, zero, fine], [3 * coarse, zero, zero, coarse])
    assert (same, lost, both) == (1.0, None, 1.0)
    assert grids is not None and 0.85 < grids < 1.0


def test_a_baseline_catches_lost_explanations() -> None:
    before, after = run_with([0.99] * 40), run_with([0.95] * 40)
    found = compare_reports([result(before)], [result(after)], Limits())
    assert [(r.artifact, r.what) for r in found.regressions] == [("small", "heat map cosine")]
    assert compare_reports([result(after)], [result(before)], Limits()).regressions == ()


@pytest.mark.slow
def test_a_model_that_is_split_elsewhere_is_scored_without_a_map(
    float_bundle: Path, phantoms: Path, tmp_path: Path
) -> None:
    """Exported with another ``--split-layer``: no failure, and the float file stands in as reference for maps."""
    import keras

    image = keras.Input((48, 48, 3))
    x = keras.layers.Conv2D(3, 3, strides=2, name="elsewhere")(image)
    x = keras.layers.Dense(1, name="logit")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, keras.layers.Activation("sigmoid", name="probability")(x))
    model.save(tmp_path / "other.keras")
    path = find_images(phantoms)[0]
    with Worker(Spec("full", str(tmp_path / "other.keras"), "", str(float_bundle), "keras", 1)) as worker:
        answer = worker.ask(do="score", path=str(path))
    wanted = 1 / (1 + np.exp(-answer["logit"]))
    assert model.predict_on_batch(preprocess_file(path, (48, 48))).item() == pytest.approx(wanted, abs=1e-5)
    assert "cam" not in answer
