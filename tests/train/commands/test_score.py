"""``sonoedge score``: a finished run on other images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.evaluation.metrics import classification_metrics, sigmoid
from sonoedge.train.evaluation.run_folder import open_run
from sonoedge.train.experiments.scoring import SCORINGS
from sonoedge.train.models.fusion import load_model
from sonoedge.train.simulation.phantoms import generate_phantoms
from tests.helpers.commands import Result
from tests.helpers.models import SIZE, model_inputs

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of another seed, with a scanner in the CSV."""
    folder = generate_phantoms(tmp_path_factory.mktemp("other") / "data", cases_per_class=3, seed=9)
    lines = (folder / "images.csv").read_text().splitlines()
    rows = [lines[0] + ",device", *(f"{line},{'AB'[i % 2]}" for i, line in enumerate(lines[1:]))]
    (folder / "images.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.slow
def test_external_figures_are_those_of_the_saved_model_and_are_logged(
    sonoedge: Run, tiny_run: Path, other: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    command = ["score", "--model", run, "--data", other, "--by", "device", "--quiet"]
    found = sonoedge(*command, "--json")
    assert found.code == 0, found.err
    result = json.loads(found.out)
    dataset = load_dataset(other)
    probability = load_model(run).predict(model_inputs([s.path for s in dataset.samples], SIZE), verbose=0)[:, 0]
    logits = np.log(probability.astype(float)) - np.log1p(-probability.astype(float))
    expected = classification_metrics(dataset.y, logits, threshold=open_run(run).threshold, groups=dataset.groups)
    assert result["images"] == 12
    assert result["metrics"]["auc"] == pytest.approx(
        [expected["auc"].value, expected["auc"].low, expected["auc"].high], abs=1e-3
    )
    assert result["metrics"]["accuracy"][0] == pytest.approx(
        np.mean((sigmoid(logits) >= 0.5) == dataset.y), abs=1e-4
    )
    assert {name: part["images"] for name, part in result["subgroups"].items() if "device" in name} == {
        "device A": 6, "device B": 6,
    }  # fmt: skip
    sizes = [part["images"] for name, part in result["subgroups"].items() if "lesion" in name]
    assert sum(sizes) == 12
    again = sonoedge(*command)
    assert "scored on these images 1 times before" in again.out
    assert "Not a medical device" in again.out
    lines = [json.loads(line) for line in (run / SCORINGS).read_text().splitlines()]
    assert [line["earlier_scorings"] for line in lines] == [0, 1]


@pytest.mark.slow
def test_images_seen_in_training_are_left_out(
    sonoedge: Run, tiny_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    result = json.loads(sonoedge("score", "--model", run, "--data", phantoms, "--quiet", "--json").out)
    test = [entry for entry in open_run(run).split.entries if entry.subset == "test"]
    assert result["images"] == len(test)
    assert result["left_out_as_seen"] == 48 - len(test)
    card = json.loads((run / "run.json").read_text())
    assert result["metrics"]["auc"][0] == pytest.approx(card["metrics"]["test"]["auc"][0], abs=1e-3)


def test_bad_columns(sonoedge: Run, tiny_run: Path, other: Path) -> None:
    found = sonoedge("score", "--model", tiny_run, "--data", other, "--by", "birads", "--quiet")
    assert found.code == 2
    assert "has no column birads" in found.err


@pytest.mark.slow
def test_statistics_of_a_normalization_are_those_of_the_file(
    sonoedge: Run, tiny_run: Path, other: Path, tmp_path: Path
) -> None:
    """Regression: the backbones were built anew, and a Normalization kept the statistics it was built with."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    model = load_model(run)
    changed = 0
    for backbone in model.layers:
        for layer in getattr(backbone, "layers", []):
            if isinstance(layer, keras.layers.Normalization):
                layer.adapt_mean.assign(layer.adapt_mean + 0.4)
                layer.adapt_variance.assign(layer.adapt_variance * 0.3)
                layer.finalize_state()
                changed += 1
    assert changed
    model.save(run / "model.keras")
    dataset = load_dataset(other)
    inputs = model_inputs([sample.path for sample in dataset.samples], SIZE)
    new, old = (load_model(folder).predict(inputs, verbose=0)[:, 0] for folder in (run, tiny_run))
    found = sonoedge("score", "--model", run, "--data", other, "--quiet", "--json")
    assert found.code == 0, found.err
    brier = json.loads(found.out)["metrics"]["brier"][0]
    expected, before = (float(np.mean((p - dataset.y) ** 2)) for p in (new, old))
    assert abs(expected - before) > 1e-4
    assert brier == pytest.approx(expected, abs=1e-5)
