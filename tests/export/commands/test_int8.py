"""The int8 options of ``sonoedge export``, from the command line to the bundle."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.export.guard.comparison import Comparison, compare
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.evaluation.metrics import sigmoid
from sonoedge.train.evaluation.run_folder import open_run, validation_logits
from tests.helpers.commands import Result

Run = Callable[..., Result]


def export(sonoedge: Run, run: Path, out: Path, *arguments: object) -> Result:
    return sonoedge("export", "--model", run, "--num-calibration-samples", 8, "--out", out, "--quiet", *arguments)


@pytest.mark.slow
def test_another_precision_writes_the_format_that_is_named_so(
    sonoedge: Run, tiny_run: Path, tmp_path: Path
) -> None:
    assert export(sonoedge, tiny_run, tmp_path / "b", "--format", "tflite-int8", "--precision", "fp32").code == 0
    assert [a.name for a in load_bundle(tmp_path / "b").artifacts] == ["tflite-fp32"]
    result = export(sonoedge, tiny_run, tmp_path / "c", "--format", "openvino-int8", "--precision", "dynamic")
    assert result.code == 2
    assert "no dynamic format for openvino" in result.err


@pytest.mark.slow
def test_the_dynamic_format_is_measured_and_gets_its_own_threshold(
    sonoedge: Run, tiny_run: Path, tmp_path: Path
) -> None:
    assert export(sonoedge, tiny_run, tmp_path / "b", "--format", "tflite-dynamic").code == 0
    (artifact,) = load_bundle(tmp_path / "b").artifacts
    found = artifact.metrics["validation"]
    assert found["images"] == len(validation_logits(open_run(tiny_run))[0])
    assert found["threshold"] == pytest.approx(artifact.threshold, abs=1e-5)
    assert artifact.metrics["promise"]["kept"] == found["within_budget"]


@pytest.mark.slow  # guard/test_int8.py: the promise of a small model
def test_a_file_without_a_promise_says_so_last_in_the_bundle_and_in_the_model_card(
    sonoedge: Run, tiny_run: Path, tmp_path: Path
) -> None:
    """No file of any of these options leaves every logit as it was: a budget of 0 counts expected flips too."""
    arguments = ["--format", "tflite-int8,tflite-dynamic", "--precision", "w8a8", "--max-drop", 0, "--max-flips", 0]
    result = export(sonoedge, tiny_run, tmp_path / "b", *arguments)
    assert result.code == 0
    bundle = load_bundle(tmp_path / "b")
    last = result.out.strip().splitlines()[-2:]
    card = (tmp_path / "b" / "MODEL_CARD.md").read_text()
    for artifact, line in zip(bundle.artifacts, last, strict=True):
        text = artifact.metrics["promise"]["text"]
        assert artifact.metrics["promise"]["kept"] is False
        assert text.startswith("no accuracy promise: outside the budget")
        assert line == f"{artifact.name}: {text}"
        assert f"**{artifact.name}: {text}.**" in card


@pytest.mark.slow  # guard/test_agreement.py: the frames with a small model
def test_unlabelled_frames_travel_as_answers_to_the_device(
    sonoedge: Run, tiny_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (50, 60, 3), np.uint8)).save(frames / f"{i}.png")
    arguments = ["--format", "tflite-int8", "--precision", "w8a8", "--agreement-data"]
    result = export(sonoedge, tiny_run, tmp_path / "b", *arguments, frames)
    assert result.code == 0
    (artifact,) = load_bundle(tmp_path / "b").artifacts
    found = artifact.metrics["validation"]["agreement"]
    assert (found["images"], found["groups"]) == (4, 4)
    assert f"unlabelled frames: {found['flipped']}/4 (4 groups)" in result.out
    # The same frames on the device: the same decisions, without a float32 file in the bundle.
    answer = sonoedge(
        "verify", tmp_path / "b", "--agreement-data", frames, "--in-process", "--json", "--max-flips", 1
    )
    (row,) = json.loads(answer.out)["agreement"]
    assert (row["reference"], row["images"], row["flipped"]) == ("agreement.jsonl", 4, found["flipped"])
    refused = export(sonoedge, tiny_run, tmp_path / "c", *arguments, phantoms)
    assert refused.code == 3
    assert "were used for" in refused.err
    assert not (tmp_path / "c").exists()


@pytest.mark.slow  # guard/test_int8.py: the recipe of a small model
def test_a_recipe_is_followed_measured_stored_and_repeated(sonoedge: Run, tiny_run: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    rules = [{"regex": "efficientnetb0"}, {"regex": "efficientnetb0", "operation": "CONV_2D", "precision": "w8a8"}]
    recipe.write_text(json.dumps({"ranges": "mse", "rules": rules}))
    report = tmp_path / "layers"
    first = export(sonoedge, tiny_run, tmp_path / "b", "--recipe", recipe, "--layer-report", report)
    assert first.code == 0
    assert "mixed, as asked for" in first.out
    assert "layer report" in first.out
    assert {path.name for path in report.iterdir()} == {"tflite-int8.taken.json", "tflite-int8.taken.png"}
    (artifact,) = load_bundle(tmp_path / "b").artifacts
    assert artifact.precision == "mixed"
    assert artifact.recipe["ranges"] == "mse"
    assert artifact.metrics["validation"]["images"] > 0
    assert artifact.metrics["calibration"]["range_rules"] == ["mse"]
    recipe.write_text(json.dumps(artifact.recipe))
    assert (
        export(sonoedge, tiny_run, tmp_path / "c", "--recipe", recipe, "--quantized-cache", tmp_path / "empty").code
        == 0
    )
    files = [tmp_path / name / "tflite-int8" / "backbone.tflite" for name in "bc"]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"rules": [{"regex": "resnet"}]}, "matches no operator"),
        ({"layers": []}, "recipe has unknown keys: layers"),
        ({"ranges": "symmetric"}, "ranges are one of"),
    ],
)
def test_bad_recipes_leave_nothing_behind(
    body: dict, message: str, sonoedge: Run, tiny_run: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(body))
    result = export(sonoedge, tiny_run, tmp_path / "b", "--recipe", recipe)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


@pytest.mark.slow  # evaluation/test_thresholds.py: the threshold itself
def test_the_operating_point_moves_every_threshold(sonoedge: Run, tiny_run: Path, tmp_path: Path) -> None:
    y, logits = validation_logits(open_run(tiny_run))
    result = export(sonoedge, tiny_run, tmp_path / "b", "--format", "tflite-fp32", "--sensitivity", "1.0")
    assert result.code == 0
    threshold = load_bundle(tmp_path / "b").artifact("tflite-fp32").threshold
    probability = sigmoid(logits)
    lowest = probability[y == 1].min()
    # As high as it can lie: between the lowest malignant score and the next lower one.
    below = probability[probability < lowest].max(initial=0.0)
    assert below < threshold <= lowest
    assert f"{threshold:.3f}" in result.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sensitivity", "0.9", "--threshold", "0.5"],
        ["--sensitivity", "0"],
        ["--sensitivity", "1.5"],
        ["--sensitivity", "nan"],
    ],
)
def test_operating_points_that_make_no_sense(
    arguments: list[str], sonoedge: Run, tiny_run: Path, tmp_path: Path
) -> None:
    result = export(sonoedge, tiny_run, tmp_path / "b", "--format", "tflite-fp32", *arguments)
    assert result.code in {2, 3}
    assert "ensitivity" in result.err
    assert not (tmp_path / "b").exists()


def test_validation_logits_are_those_of_the_run(tiny_run: Path) -> None:
    y, logits = validation_logits(open_run(tiny_run))
    with (tiny_run / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["subset"] == "val"]
    assert [row["label"] for row in rows] == [("benign", "malignant")[i] for i in y]
    assert len(logits) == len(rows) > 0


@pytest.mark.slow
def test_the_guard_from_the_command_line(sonoedge: Run, tiny_run: Path, tmp_path: Path) -> None:
    arguments = ["--format", "tflite-int8,openvino-int8", "--max-drop", "1", "--max-flips", "0.5"]
    result = export(sonoedge, tiny_run, tmp_path / "b", *arguments)
    assert result.code == 0
    assert result.out.count("<- taken") == 2
    assert "verdict" in result.out
    bundle = load_bundle(tmp_path / "b")
    for artifact in bundle.artifacts:
        assert artifact.metrics["candidates"][0]["candidate"].startswith("w8a8")
        assert artifact.threshold == pytest.approx(artifact.metrics["validation"]["threshold"], abs=1e-5)


@pytest.mark.slow  # guard/test_int8.py: the refusal with a small model
def test_nothing_within_the_budget_is_exit_8_and_leaves_no_bundle(
    sonoedge: Run, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is spared: every candidate decides the other way round."""

    def turned(dataset: Dataset, reference: np.ndarray, threshold: float, logits: np.ndarray) -> Comparison:
        return compare(dataset, reference, threshold, -logits)

    monkeypatch.setattr("sonoedge.export.guard.evaluator.compare", turned)
    # Fewer, longer stretches of operators: the same search in a fraction of the time.
    monkeypatch.setattr("sonoedge.export.quantize.quantizers.TFLiteQuantizer.stretches", 3)
    refused = export(
        sonoedge, tiny_run, tmp_path / "b", "--format", "tflite-int8", "--quantized-cache", tmp_path / "cache"
    )
    assert refused.code == 8
    assert "Nearest: " in refused.err
    assert "Traceback" not in refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
