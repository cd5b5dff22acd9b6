"""``sonoedge train`` from a folder of images to a run folder."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.data.split import apply_split
from sonoedge.train.evaluation.metrics import sigmoid
from sonoedge.train.evaluation.run_folder import newest_run, open_run, validation_logits
from sonoedge.train.fitting import trainer as training
from sonoedge.train.models.fusion import load_model
from tests.helpers.commands import Result, train_arguments
from tests.helpers.models import model_inputs

Run = Callable[..., Result]
TINY = ["--weights", "none", "--backbones", "tiny_a,tiny_b", "--input-size", 32, "--protocol", "paper", "--quiet"]


def untouched(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_run_folder(tiny_run: Path, phantoms: Path) -> None:
    assert untouched(tiny_run) == {
        "model.keras", "split.json", "run.json", "predictions.csv", "curves.png", "confusion.png", "roc.png",
    }  # fmt: skip
    for name in ("curves.png", "confusion.png", "roc.png"):
        with Image.open(tiny_run / name) as picture:
            picture.verify()
    card = json.loads((tiny_run / "run.json").read_text())
    assert card["intended_use"] == INTENDED_USE
    assert card["settings"]["protocol"] == "paper"
    assert card["threshold"] == 0.5
    assert set(card["weights"]) == {"mobilenetv2", "efficientnetb0"}
    assert card["dataset"]["digest"] == load_dataset(phantoms).digest
    assert card["dataset"]["groups_on_both_sides"] == 0
    assert sum(card["dataset"]["images"].values()) == 48
    assert {"python", "keras", "tensorflow", "numpy"} <= set(card["versions"])
    for subset in ("val", "test"):
        value, low, high = card["metrics"][subset]["accuracy"]
        assert low <= value <= high


@pytest.mark.slow
def test_the_saved_model_gives_the_written_predictions(tiny_run: Path, phantoms: Path) -> None:
    with (tiny_run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    probability = load_model(tiny_run).predict(model_inputs([phantoms / row["image"] for row in rows]), verbose=0)
    logits = np.array([float(row["logit"]) for row in rows])
    np.testing.assert_allclose(sigmoid(logits), probability[:, 0], atol=1e-4)
    subsets = apply_split(load_dataset(phantoms), open_run(tiny_run).split)
    assert [row["image"] for row in rows if row["subset"] == "test"] == [
        sample.relative_path for sample in subsets["test"].samples
    ]


@pytest.mark.slow
def test_a_finished_run_is_not_replaced_unless_asked(
    sonoedge: Run, tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert sonoedge("train", "--data", phantoms, *TINY, "--out", out).code == 0
    again = sonoedge("train", "--data", phantoms, *TINY, "--out", out)
    assert again.code == 2
    assert "--overwrite" in again.err
    replaced = sonoedge("train", "--data", phantoms, *TINY, "--out", out, "--overwrite", "--json")
    assert replaced.code == 0
    assert json.loads(replaced.out)["settings"]["backbones"] == "tiny_a,tiny_b"
    assert newest_run(tmp_path) == out


@pytest.mark.slow
def test_another_runs_split_is_reused(
    sonoedge: Run, tiny_backbones: tuple[str, str], tiny_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ["--data", phantoms, *TINY, "--split", tiny_run / "split.json", "--seed", 9, "--out", out]
    assert sonoedge("train", *arguments).code == 0
    assert open_run(out).split.entries == open_run(tiny_run).split.entries


@pytest.mark.slow
def test_fine_tuning_flatten_and_copies(
    sonoedge: Run, tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    more = ["--fine-tune", "tiny_b/last", "--fine-tune-epochs", 1, "--augment", 1, "--units", "8,4"]
    arguments = [
        "--data",
        phantoms,
        *TINY,
        *more,
        "--pooling",
        "flatten",
        "--feature-cache",
        tmp_path / "cache",
        "--out",
        out,
    ]
    assert sonoedge("train", *arguments).code == 0
    card = json.loads((out / "run.json").read_text())
    assert len(card["fine_tune_history"]["loss"]) == 1
    assert load_model(out).get_layer("flatten") is not None


def test_fine_tuning_goes_on_from_the_logistic_head_without_dropout(
    sonoedge: Run, tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ["train", "--data", phantoms, "--weights", "none", "--backbones", "tiny_a,tiny_b", "--input-size", 32]
    more = ["--units", 8, "--fine-tune", "tiny_b/last", "--fine-tune-epochs", 1, "--fine-tune-rate", 1e-6]
    assert sonoedge(*command, *more, "--quiet", "--out", out).code == 0
    card = json.loads((out / "run.json").read_text())
    # A first epoch with dropout between paired units would start far above the regression's own loss.
    assert card["fine_tune_history"]["loss"][0] == pytest.approx(card["history"]["loss"][0], rel=0.02)
    assert load_model(out).get_layer("dropout1").rate == 0
    assert card["settings"]["maps"] == "stages"
    assert card["pipeline"]["images_computed"] > 0
    assert sum(part["images"] for part in card["subgroups"].values()) == card["dataset"]["images"]["test"]


def test_the_threshold_comes_from_validation_scores_alone(
    sonoedge: Run, tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ["train", "--data", phantoms, "--weights", "none", "--backbones", "tiny_a,tiny_b", "--input-size", 32]
    assert sonoedge(*command, "--quiet", "--out", out).code == 0
    run = open_run(out)
    scores = np.unique(validation_logits(run)[1])
    cut = np.log(run.threshold) - np.log1p(-run.threshold)
    midway = (scores[1:] + scores[:-1]) / 2
    assert np.abs(midway - cut).min() < 1e-4 * np.ptp(scores)


@pytest.fixture
def damaged(phantoms: Path, tmp_path: Path) -> Path:
    """The phantoms with one truncated image."""
    data = tmp_path / "damaged"
    shutil.copytree(phantoms, data)
    victim = data / "benign" / "benign_0003_a.png"
    victim.write_bytes(victim.read_bytes()[:500])
    return data


def test_an_unreadable_image_stops_or_is_left_out(
    sonoedge: Run, tiny_backbones: tuple[str, str], damaged: Path, tmp_path: Path
) -> None:
    refused = sonoedge("train", "--data", damaged, *TINY, "--out", tmp_path / "run")
    assert refused.code == 3
    assert "benign_0003_a.png" in refused.err
    assert "--skip-unreadable" in refused.err
    assert not (tmp_path / "run").exists()
    answered = sonoedge("train", "--data", damaged, *TINY, "--out", tmp_path / "run", "--skip-unreadable")
    assert answered.code == 0
    assert "1 unreadable image" in answered.out


def one_class(folder: Path) -> Path:
    (folder / "benign").mkdir(parents=True)
    Image.new("L", (40, 40), 90).save(folder / "benign" / "a.png")
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "nowhere"], 3, "does not exist"),
        (["--data", "empty"], 3, "empty"),
        (["--data", "one"], 3, "class"),
        (["--data", "GOOD", "--classes", "benign,cyst"], 3, "cyst"),
        (["--data", "GOOD", "--backbones", "tiny_a,nosuchnet"], 2, "nosuchnet"),
        (["--data", "GOOD", "--split", "nowhere.json"], 2, "--split"),
        (["--data", "GOOD", "--split", "GOOD/images.csv"], 3, "split"),
        (["--data", "GOOD", "--weights", "nowhere"], 6, "No such weights file"),
        (["--data", "GOOD", "--units", "many"], 2, "--units"),
        (["--data", "GOOD", "--dropout", "1.5"], 2, "--dropout"),
        (["--data", "GOOD", "--input-size", "8"], 2, "--input-size"),
        (["--data", "GOOD", "--fine-tune", "["], 2, "regular expression"),
        (["--data", "GOOD", "--out", "taken"], 2, "will not be replaced"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str],
    code: int,
    message: str,
    sonoedge: Run,
    tiny_backbones: tuple[str, str],
    phantoms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    one_class(tmp_path / "one")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("years of work")
    before = untouched(tmp_path)
    arguments = [argument.replace("GOOD", str(phantoms)) for argument in arguments]
    result = sonoedge("train", *TINY, *(["--out", "run"] if "--out" not in arguments else []), *arguments)
    assert result.code == code
    error = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert message in error[0]
    assert "Traceback" not in result.err
    assert untouched(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_run_that_breaks_off_leaves_nothing(
    error: BaseException,
    sonoedge: Run,
    tiny_backbones: tuple[str, str],
    phantoms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(training, "write_split", fail)
    result = sonoedge("train", "--data", phantoms, *TINY, "--out", tmp_path / "run")
    assert result.code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert "Traceback" not in result.err
    assert untouched(tmp_path) == set()


@pytest.mark.slow
def test_paper_split_reports_the_leak(sonoedge: Run, phantoms: Path, weights_dir: Path, tmp_path: Path) -> None:
    arguments = [*train_arguments(phantoms, weights_dir), "--split", "paper", "--out", tmp_path / "run"]
    result = sonoedge("train", *arguments)
    assert result.code == 0
    # Two views of a case on both sides of a random split.
    assert "have a copy or the same patient in training" in result.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["dataset"]["groups_on_both_sides"] > 0
