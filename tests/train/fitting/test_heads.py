"""Fitting heads on cached features, and blocks of a backbone end to end."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.evaluation.metrics import sigmoid
from sonoedge.train.features.cache import compute_features, load_input
from sonoedge.train.fitting import heads as fit
from sonoedge.train.fitting.feature_set import FeatureSet
from sonoedge.train.fitting.fine_tuning import fine_tune
from sonoedge.train.fitting.heads import fit_default, fit_paper, head_logits, log_loss
from sonoedge.train.models.fusion import FusionModel, HeadSpec, build_model
from sonoedge.train.records.settings import PAPER, FitSettings


@pytest.fixture
def model(tiny_backbones: tuple[str, str]) -> FusionModel:
    keras.utils.set_random_seed(3)
    return build_model(tiny_backbones, weights="none", input_size=(32, 32), head=HeadSpec(units=(8,)))


def separable(count: int, seed: int = 0) -> FeatureSet:
    """Features of the two tiny backbones of which one tells the classes apart; one channel is constant."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 2
    a = rng.normal(size=(count, 4)).astype(np.float32) + 40
    b = rng.normal(size=(count, 6)).astype(np.float32)
    a[:, 1] += 4 * y
    b[:, 2] = 7
    return FeatureSet({"tiny_a": a, "tiny_b": b}, y)


def test_paper_protocol_is_table_ii() -> None:
    assert (PAPER.learning_rate, PAPER.batch_size, PAPER.epochs, PAPER.patience) == (1e-5, 16, 24, 10)
    assert not PAPER.weight_decay
    assert not PAPER.balanced


def test_paper_fit_trains_the_full_model(model: FusionModel) -> None:
    before = model.full.get_layer("fc1").get_weights()[0].copy()
    result = fit_paper(model, separable(64), separable(32, 1), seed=0, progress=False)
    assert 1 <= len(result.history["loss"]) <= 24
    assert result.history["val_loss"][-1] < result.history["val_loss"][0]
    assert not np.array_equal(model.full.get_layer("fc1").get_weights()[0], before)


ADAM_GRID = tuple(
    FitSettings(1e-3, 32, epochs=60, patience=10, weight_decay=decay, balanced=balanced)
    for decay, balanced in ((1e-2, False), (1.0, True))
)


@pytest.mark.parametrize("grid", [fit.DEFAULT_GRID, pytest.param(ADAM_GRID, marks=pytest.mark.slow)])
def test_default_fit_learns_and_folds_the_standardisation(
    model: FusionModel, grid: tuple[FitSettings, ...]
) -> None:
    train, val = separable(160), separable(80, 1)
    result = fit_default(model, train, val, seed=0, progress=False, grid=grid)
    assert len(result.candidates) == len(grid)
    best = max(result.candidates, key=lambda c: (c["val_auc"], -c["val_loss"]))
    assert best["val_auc"] > 0.95
    assert {name: best[name] for name in ("learning_rate", "weight_decay", "balanced")} == {
        "learning_rate": result.settings.learning_rate,
        "weight_decay": result.settings.weight_decay,
        "balanced": result.settings.balanced,
    }
    # Raw features in, the figures found on standardised ones out: the folding changed nothing.
    assert log_loss(val.y, head_logits(model, val)) == pytest.approx(best["val_loss"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("averaged", [False, True])
def test_the_weights_that_were_validated_are_kept(model: FusionModel, *, averaged: bool) -> None:
    """With averages too: neither the last weights nor averages of another epoch."""
    settings = FitSettings(3e-2, 32, epochs=12, patience=3, averaged=averaged)
    train, val = separable(160), separable(80, 1)
    result = fit_default(model, train, val, seed=0, progress=False, grid=(settings,))
    assert log_loss(val.y, head_logits(model, val)) == pytest.approx(min(result.history["val_loss"]), rel=1e-3)


@pytest.mark.slow
def test_averaged_weights_are_others(model: FusionModel) -> None:
    start = model.head.get_weights()
    losses = []
    for averaged in (False, True):
        model.head.set_weights(start)
        settings = FitSettings(3e-2, 32, epochs=4, patience=4, averaged=averaged)
        history = fit_default(
            model, separable(160), separable(80, 1), seed=0, progress=False, grid=(settings,)
        ).history
        losses.append(history)
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-5)
    assert losses[0]["val_loss"] != pytest.approx(losses[1]["val_loss"], rel=1e-2)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_head(model: FusionModel) -> None:
    start = model.head.get_weights()
    logits = []
    for _ in range(2):
        model.head.set_weights(start)
        fit_paper(model, separable(64), separable(32, 1), seed=5, progress=False)
        logits.append(head_logits(model, separable(32, 2)))
    np.testing.assert_array_equal(*logits)


def test_log_loss_of_saturated_logits_is_finite() -> None:
    y = np.array([1, 0])
    assert log_loss(y, np.array([1e4, -1e4])) == pytest.approx(0, abs=1e-9)
    assert 20 < log_loss(y, np.array([-1e4, 1e4])) < 40


def test_fine_tuning_moves_only_the_chosen_layers(model: FusionModel, phantoms: Path, tmp_path: Path) -> None:
    dataset = load_dataset(phantoms)
    train, val = dataset.select(range(0, 48, 2)).samples, dataset.select(range(1, 48, 4)).samples
    before = {name: backbone.get_weights() for name, backbone in model.backbones.items()}
    history = fine_tune(
        model,
        train,
        val,
        layers="tiny_a/last",
        settings=FitSettings(1e-3, 8, epochs=2, patience=5),
        seed=0,
        backup=tmp_path / "backup",
        progress=False,
    )
    assert len(history["loss"]) == 2
    changed = {
        f"{name}/{weight.path.split('/')[-2]}"
        for name, backbone in model.backbones.items()
        for weight, old in zip(backbone.weights, before[name], strict=True)
        if not np.array_equal(keras.ops.convert_to_numpy(weight), old)
    }
    assert changed == {"tiny_a/last"}
    # The features of the tuned backbone reach the head as in the full model.
    features = compute_features(model.branches, val)
    logits = head_logits(model, FeatureSet(features, np.zeros(len(val), np.int64)))
    batch = np.stack([load_input(sample, 0, (32, 32)) for sample in val])
    np.testing.assert_allclose(sigmoid(logits), model.full.predict_on_batch(batch)[:, 0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "message"), [("(", "not a regular expression"), ("vgg19/.*", "matches no layer")]
)
def test_fine_tuning_needs_layers(model: FusionModel, layers: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        fine_tune(model, (), (), layers=layers, settings=PAPER, seed=0, backup=tmp_path, progress=False)
