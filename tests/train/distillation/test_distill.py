"""``sonoedge distill``: a run teaches a student, whose run is like any other."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.distillation import objective as distilling
from sonoedge.train.distillation.objective import (
    Distiller,
    _Batches,
    map_cosine,
    teach,
    thin_directions,
)
from sonoedge.train.distillation.targets import Targets, on_grid
from sonoedge.train.distillation.teacher import open_teacher
from sonoedge.train.evaluation.metrics import sigmoid
from sonoedge.train.evaluation.run_folder import open_run
from sonoedge.train.models.fusion import load_model
from sonoedge.train.records.run_card import DistilledCard
from sonoedge.train.records.settings import DistillFit
from sonoedge.train.simulation.phantoms import generate_phantoms
from tests.helpers.commands import Result, call
from tests.helpers.models import SIZE, model_inputs

Command = Callable[..., Result]


def arguments(teacher: Path, data: Path, weights: object, *more: object) -> list[object]:
    return [
        "--teacher", teacher, "--data", data, "--student", "mobilenetv2", "--weights", weights,
        "--input-size", SIZE, "--augment", 1, "--epochs", 1, "--quiet", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def student_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_run: Path, phantoms: Path, weights_dir: Path
) -> Path:
    out = tmp_path_factory.mktemp("students") / "student"
    assert call("distill", *arguments(tiny_run, phantoms, weights_dir), "--out", out) == 0
    return out


@pytest.mark.slow
def test_the_students_run_is_like_any_other(student_run: Path, tiny_run: Path, phantoms: Path) -> None:
    card = open_run(student_run).card
    assert (student_run / "split.json").read_bytes() == (tiny_run / "split.json").read_bytes()
    assert isinstance(card, DistilledCard)
    assert list(card.weights) == ["mobilenetv2"]
    assert card.distillation.teacher.weights == open_run(tiny_run).card.weights
    low, high = card.distillation.auc_minus_teacher["test"][1:]
    assert -1 <= low <= high <= 1
    with (student_run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    model = load_model(student_run)
    probability = model.predict(model_inputs([phantoms / row["image"] for row in rows]), verbose=0)
    logits = np.array([float(row["logit"]) for row in rows])
    np.testing.assert_allclose(sigmoid(logits), probability[:, 0], atol=1e-4)


@pytest.mark.slow
def test_the_student_is_exported_and_verified(
    sonoedge: Command, student_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    exported = sonoedge("export", "--model", student_run, "--format", "tflite-fp32", "--out", out, "--quiet")
    assert exported.code == 0, exported.err
    assert sonoedge("verify", out).code == 0


def small_lesson(seed: int, count: int = 64) -> Targets:
    """A teacher of five hidden units that are linear in the student's maps, on a grid of 3 x 3."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3, 3, 6)).astype(np.float32)
    hidden = (np.maximum(x, 0) @ np.random.default_rng(1).normal(size=(6, 5))).astype(np.float32)
    pooled = hidden.mean(axis=(1, 2))
    logit = np.maximum(pooled, 0).sum(axis=1) - 2
    cam = np.einsum("nhwu,nu->nhw", hidden, (pooled > 0).astype(np.float32))
    return Targets(x, hidden, pooled, logit, cam, (logit > 0).astype(np.int64))


@pytest.mark.slow
def test_a_student_is_scored_on_other_images(sonoedge: Command, student_run: Path, tmp_path: Path) -> None:
    """Its model is not built from the settings of the run, as a trained one is."""
    other = generate_phantoms(tmp_path / "other", cases_per_class=2, seed=9)
    run = shutil.copytree(student_run, tmp_path / "run")
    result = sonoedge("score", "--model", run, "--data", other, "--quiet", "--json")
    assert result.code == 0, result.err
    dataset = load_dataset(other)
    probability = load_model(run).predict(model_inputs([s.path for s in dataset.samples]), verbose=0)[:, 0]
    right = (probability >= open_run(run).threshold) == dataset.y
    assert json.loads(result.out)["metrics"]["accuracy"][0] == pytest.approx(right.mean(), abs=1e-4)


def test_a_copy_is_taught_its_own_maps_and_the_mean_answer_to_its_image() -> None:
    own = small_lesson(2, count=12)
    taught = own.agreed(4)
    for image in range(12):
        copies = [image % 4 + 4 * number for number in range(3)]
        np.testing.assert_allclose(taught.logit[image], own.logit[copies].mean(), rtol=1e-5)
        np.testing.assert_allclose(taught.pooled[image], own.pooled[copies].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(taught.hidden, own.hidden)
    np.testing.assert_array_equal(taught.cam, own.cam)


def small_distiller(fit: DistillFit, taught: Targets) -> Distiller:
    keras.utils.set_random_seed(3)
    image = keras.Input((3, 3, 6))
    upper = keras.Model(image, keras.layers.Conv2D(8, 1, activation="relu")(image))
    pooled = keras.Input((8,))
    logit = keras.layers.Dense(1)(keras.layers.Dense(5, activation="relu")(pooled))
    return Distiller(upper, keras.Model(pooled, logit), taught, fit)


@pytest.mark.slow
def test_teaching_brings_the_student_to_the_teacher(tmp_path: Path) -> None:
    taught, val = small_lesson(2), small_lesson(5)
    distiller = small_distiller(DistillFit(learning_rate=2e-2, epochs=40), taught)
    before = distiller.predict(val.x, verbose=0)
    history = teach(distiller, taught, val, seed=0, backup=tmp_path / "backup", progress=False)
    after = distiller.predict(val.x, verbose=0)
    # The cross-entropies of the loss cannot fall to zero.
    assert history["val_loss"][-1] < 0.7 * history["val_loss"][0]
    errors = [np.abs(answers["logit"] - val.logit).mean() for answers in (before, after)]
    assert errors[1] < 0.6 * errors[0]
    assert map_cosine(after["cam"], val.cam) > max(0.8, map_cosine(before["cam"], val.cam))
    # The best epoch is kept, and nothing is left of the way there.
    distiller.compile()
    loss = distiller.evaluate(_Batches(val, 32, None), verbose=0)
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-4)
    assert not (tmp_path / "backup").exists()


@pytest.mark.slow
def test_an_interrupted_training_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taught, val = small_lesson(2), small_lesson(5)
    epochs: list[int] = []

    class Watch(keras.callbacks.Callback):
        stop_at: int | None = None

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            if epoch == self.stop_at:
                raise KeyboardInterrupt
            epochs.append(epoch)

    monkeypatch.setattr(distilling, "EpochBar", lambda *_: Watch())

    def run(backup: str) -> np.ndarray:
        distiller = small_distiller(DistillFit(learning_rate=1e-2, epochs=4), taught)
        teach(distiller, taught, val, seed=0, backup=tmp_path / backup, progress=False)
        return distiller.predict(val.x, verbose=0)["logit"]

    whole = run("one")
    Watch.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        run("two")
    Watch.stop_at = None
    np.testing.assert_allclose(run("two"), whole, atol=1e-4)
    assert epochs == [0, 1, 2, 3, 0, 1, 2, 3]


@given(rank=st.integers(1, 5))
@settings(max_examples=5)
def test_thin_directions_keep_what_varies(rank: int) -> None:
    taught = small_lesson(2)
    distiller = small_distiller(DistillFit(), taught)
    before = distiller.predict(taught.x, verbose=0)
    directions = thin_directions(distiller, taught, rank)
    after = distiller.predict(taught.x, verbose=0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(rank), atol=1e-5)
    np.testing.assert_allclose(after["pooled"].mean(axis=0), before["pooled"].mean(axis=0), atol=1e-4)
    if rank == 5:
        np.testing.assert_allclose(after["logit"], before["logit"], atol=1e-4)


@pytest.mark.slow
def test_refusals(
    sonoedge: Command, tiny_run: Path, phantoms: Path, weights_dir: Path, tmp_path: Path, student_run: Path
) -> None:
    (tmp_path / "empty").mkdir()
    cases = [
        (arguments(tiny_run, tmp_path / "empty", weights_dir), 3, "Received: none in"),
        (arguments(tiny_run, phantoms / "benign", weights_dir), 3, ""),
        (arguments(tmp_path / "none", phantoms, weights_dir), 6, "No such run folder"),
        (
            [*arguments(tiny_run, phantoms, weights_dir), "--student", "resnet"],
            2,
            "efficientnet-lite0, mobilenetv2",
        ),
        (arguments(tiny_run, phantoms, tmp_path / "empty"), 6, "No such weights file"),
        ([*arguments(tiny_run, phantoms, weights_dir), "--epochs", 0], 2, "--epochs"),
    ]
    for given_arguments, code, message in cases:
        result = sonoedge("distill", *given_arguments, "--out", tmp_path / "out")
        assert (result.code, message in result.err) == (code, True), result.err
        assert len(result.err.splitlines()) == 1
        assert not (tmp_path / "out").exists()
    again = sonoedge("distill", *arguments(tiny_run, phantoms, weights_dir), "--out", student_run)
    assert again.code == 2
    assert "--overwrite" in again.err


def test_a_changed_image_is_refused(
    sonoedge: Command, tiny_run: Path, phantoms: Path, weights_dir: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(phantoms, tmp_path / "data")
    image = next(iter(sorted((data / "benign").glob("*.png"))))
    image.write_bytes(next(iter(sorted((data / "malignant").glob("*.png")))).read_bytes())
    result = sonoedge("distill", *arguments(tiny_run, data, weights_dir), "--out", tmp_path / "out")
    assert result.code == 3
    assert image.name in result.err


@pytest.mark.slow
def test_the_hidden_maps_say_what_the_teacher_says(tiny_run: Path, phantoms: Path) -> None:
    run = open_run(tiny_run)
    teacher = open_teacher(run)
    batch = model_inputs(sorted((phantoms / "benign").glob("*.png"))[:4])
    hidden = teacher.hidden.predict(batch, verbose=0)
    model = load_model(tiny_run)
    np.testing.assert_allclose(sigmoid(teacher.logits(hidden)), model.predict(batch, verbose=0)[:, 0], atol=1e-5)
    # With one hidden ReLU layer the map, averaged, is the logit less what the biases bring.
    (kernel, bias), (last, end) = teacher.dense
    assert kernel.shape[1] == hidden.shape[-1] == bias.size
    active = hidden.mean(axis=(1, 2)) + bias > 0
    rest = (active * bias) @ last[:, 0] + end[0]
    np.testing.assert_allclose(teacher.cams(hidden).mean(axis=(1, 2)) + rest, teacher.logits(hidden), atol=1e-5)


@pytest.mark.slow
def test_a_flatten_head_cannot_teach(
    sonoedge: Command, tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path
) -> None:
    options = ["--weights", "none", "--backbones", "tiny_a", "--input-size", 32, "--protocol", "paper", "--quiet"]
    run = ["train", "--data", phantoms, *options, "--pooling", "flatten", "--units", 4, "--out", tmp_path / "run"]
    assert sonoedge(*run).code == 0
    with pytest.raises(ModelError, match="--pooling gap"):
        open_teacher(open_run(tmp_path / "run"))


@given(old=st.integers(1, 9), new=st.integers(1, 9), seed=st.integers(0, 99))
def test_another_grid_keeps_means(old: int, new: int, seed: int) -> None:
    maps = np.random.default_rng(seed).normal(size=(2, old, new, 3)).astype(np.float32)
    moved = on_grid(maps, (new, old))
    assert moved.shape == (2, new, old, 3)
    np.testing.assert_allclose(moved.mean(axis=(1, 2)), maps.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(on_grid(maps, (old, new)), maps, atol=1e-6)
