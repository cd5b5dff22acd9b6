"""Fine-tuning: copies are trained on whatever the memory, and an interruption changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from sonoedge.train.data.dataset import Dataset, load_dataset
from sonoedge.train.data.split import apply_split, make_split
from sonoedge.train.fitting import fine_tuning
from sonoedge.train.fitting import steps as stages
from sonoedge.train.fitting.fine_tuning import ImageBatches, fine_tune
from sonoedge.train.fitting.steps import fit_subsets
from sonoedge.train.fitting.stopping import Stopping
from sonoedge.train.models.fusion import FusionModel, HeadSpec, build_model
from sonoedge.train.records.settings import FitSettings, TrainSettings

SIZE = 32


@pytest.fixture(scope="module")
def subsets(phantoms: Path) -> dict[str, Dataset]:
    dataset = load_dataset(phantoms)
    return apply_split(dataset, make_split(dataset))


def fresh(names: tuple[str, str]) -> FusionModel:
    keras.utils.set_random_seed(3)
    return build_model(names, weights="none", input_size=(SIZE, SIZE), head=HeadSpec(units=(8,), dropout=0.0))


class Weights:
    """Stands for a model: its only weight is the number of the epoch."""

    def __init__(self) -> None:
        self.value = np.array([-1.0])
        self.stop_training = False

    def get_weights(self) -> list[np.ndarray]:
        return [self.value]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        (self.value,) = weights


def epochs(stop: Stopping, losses: dict[int, float]) -> Weights:
    model = Weights()
    stop.set_model(model)
    stop.on_train_begin()
    for epoch, loss in losses.items():
        model.value = np.array([float(epoch)])
        stop.on_epoch_end(epoch, {"val_loss": loss})
    return model


def test_a_resumed_training_knows_the_best_epoch_before_the_interruption(tmp_path: Path) -> None:
    epochs(Stopping(3, tmp_path), {0: 0.5, 1: 0.3, 2: 0.4})
    stop = Stopping(3, tmp_path)
    model = epochs(stop, {3: 0.45, 4: 0.35})
    assert model.stop_training, "three epochs in a row were worse than the best, one of them before"
    stop.on_train_end()
    assert model.value == 1.0
    assert stop.history == {"val_loss": [0.5, 0.3, 0.4, 0.45, 0.35]}


def test_an_epoch_that_runs_again_counts_once(tmp_path: Path) -> None:
    epochs(Stopping(9, tmp_path), {0: 0.5, 1: 0.6})
    stop = Stopping(9, tmp_path)
    epochs(stop, {1: 0.6, 2: 0.4})
    assert stop.history == {"val_loss": [0.5, 0.6, 0.4]}
    assert (stop.best, stop.wait) == (0.4, 0)
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-2.npz"]


@pytest.mark.slow
def test_an_interruption_changes_nothing(
    tiny_backbones: tuple[str, str],
    subsets: dict[str, Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tuned(backup: Path) -> tuple[FusionModel, dict[str, list[float]]]:
        model = fresh(tiny_backbones)
        history = fine_tune(
            model, subsets["train"].samples, subsets["val"].samples, layers="tiny_b/last", seed=0, progress=False,
            settings=FitSettings(0.05, 8, epochs=4, patience=9), backup=backup, copies=1,
        )  # fmt: skip
        return model, history

    whole, expected = tuned(tmp_path / "whole")
    start = ImageBatches.start

    def interrupted(self: Any, epoch: int) -> None:
        if epoch == 3:
            raise KeyboardInterrupt
        start(self, epoch)

    monkeypatch.setattr(ImageBatches, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "parts")
    monkeypatch.setattr(ImageBatches, "start", start)
    resumed, history = tuned(tmp_path / "parts")
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(expected, 4)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-4)
    for found, wanted in zip(resumed.full.get_weights(), whole.full.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    assert not (tmp_path / "parts").exists()


def test_copies_are_trained_on_where_the_maps_do_not_fit_into_memory(
    tiny_backbones: tuple[str, str],
    subsets: dict[str, Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: set[tuple[str, int]] = set()
    load_input = fine_tuning.load_input

    def recorded(sample: Any, copy: int, size: tuple[int, int]) -> np.ndarray:
        seen.add((sample.sha256, copy))
        return load_input(sample, copy, size)

    monkeypatch.setattr(fine_tuning, "load_input", recorded)
    monkeypatch.setattr(stages, "_TAIL_BYTES", 0)
    settings = TrainSettings(
        "", backbones=",".join(tiny_backbones), augment=2, fine_tune="tiny_b/last", fine_tune_epochs=1
    )
    fitted = fit_subsets(fresh(tiny_backbones), subsets, settings, cache=tmp_path, progress=False, stress=True)
    train = {sample.sha256 for sample in subsets["train"].samples}
    assert {(digest, copy) for digest, copy in seen if digest in train} == {(d, c) for d in train for c in range(3)}
    assert len(fitted.logits["stress"]) == len(fitted.logits["test"])
    assert not np.allclose(fitted.logits["stress"], fitted.logits["test"])


def test_other_initial_weights_do_not_go_on_from_there(
    tiny_backbones: tuple[str, str], subsets: dict[str, Dataset], tmp_path: Path
) -> None:
    settings = TrainSettings("data", weights="folder")
    model = fresh(tiny_backbones)
    before = stages._backup(model, subsets, settings, tmp_path)
    assert stages._backup(fresh(tiny_backbones), subsets, settings, tmp_path) == before
    layer = model.backbones["tiny_a"].get_layer("first")
    layer.set_weights([weight + 1 for weight in layer.get_weights()])
    assert stages._backup(model, subsets, settings, tmp_path) != before
