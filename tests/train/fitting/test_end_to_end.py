"""Training all layers: balanced batches, the lesion as a second teacher, and going on after an interruption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from msgspec import structs

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.callbacks import EpochEnded, listening
from sonoedge.train.data.dataset import Dataset, load_dataset
from sonoedge.train.features.policy import find_policy
from sonoedge.train.fitting.end_to_end import (
    BalancedBatches,
    balanced_order,
    lesion_target,
    train_end_to_end,
    with_lesions,
)
from sonoedge.train.fitting.steps import build, end_to_end_fit
from sonoedge.train.models.backbones import build_branch
from sonoedge.train.models.fusion import FusionModel, load_model, open_model
from sonoedge.train.records.settings import TrainSettings
from tests.helpers.commands import Result

TINY = TrainSettings(
    "", weights="none", backbones="tiny_a", input_size=32, units=(8,), dropout=0.0, protocol="end-to-end",
    maps="lesion", epochs=3, batch_size=8, learning_rate=1e-2,
)  # fmt: skip


@pytest.fixture
def images(phantoms: Path) -> Dataset:
    return load_dataset(phantoms)


@pytest.fixture
def model(tiny_backbones: tuple[str, str]) -> FusionModel:
    return build(TINY)


def weights_of(model: FusionModel) -> np.ndarray:
    return np.concatenate([np.ravel(w) for w in model.full.get_weights()])


def trained(model: FusionModel, images: Dataset, settings: TrainSettings = TINY, **options: Any) -> dict[str, list]:
    return train_end_to_end(model, images.samples, end_to_end_fit(settings), settings, progress=False, **options)


def test_every_source_and_class_has_the_same_share() -> None:
    cells = [("north", 0)] * 60 + [("north", 1)] * 30 + [("south", 0)] * 7 + [("south", 1)] * 3
    order = balanced_order(cells, 16, np.random.default_rng(0))
    assert len(order) == 112  # 100 images, rounded up to whole batches
    assert Counter(cells[i] for i in order) == dict.fromkeys(set(cells), 28)
    for start in range(0, len(order), 16):
        assert set(Counter(cells[i] for i in order[start : start + 16]).values()) == {4}
    # No image comes again before all others of its cell.
    for cell in set(cells):
        mine = [i for i in order if cells[i] == cell]
        size = cells.count(cell)
        assert all(len(set(part)) == len(part) for part in (mine[k : k + size] for k in range(0, len(mine), size)))


def test_an_epoch_depends_on_the_seed_and_its_number(images: Dataset) -> None:
    def batches(seed: int, epoch: int) -> list[np.ndarray]:
        made = BalancedBatches(images.samples, (32, 32), 8, find_policy(None), {"lesion": (4, 4)}, seed=seed)
        made.start(epoch)
        return [made[i][0] for i in range(2)]

    first, again, later, other = batches(0, 1), batches(0, 1), batches(0, 2), batches(1, 1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)
    assert not np.array_equal(first, other)
    assert first[0].dtype == np.float32
    assert 0 <= first[0].min() < first[0].max() <= 255


def test_images_without_a_mask_teach_no_lesion(images: Dataset) -> None:
    half = [replace(s, mask_path=None) if i % 2 else s for i, s in enumerate(images.samples)]
    made = BalancedBatches(half, (32, 32), 16, find_policy(None), {"lesion": (4, 4)}, seed=0)
    _, targets, weights = made[0]
    known = weights["lesion"].reshape(16, -1).all(axis=1)
    assert 0 < known.sum() < 16
    assert targets["lesion"].shape == (16, 4, 4, 1)
    assert (targets["lesion"].reshape(16, -1).max(axis=1) > 0.2)[known].all()
    assert not targets["lesion"][~known].any()
    assert not weights["lesion"][~known].any()


def test_a_lesion_target_is_a_share() -> None:
    mask = np.zeros((40, 60), bool)
    mask[:10, :15] = True
    share, weight = lesion_target(mask, (2, 2))
    np.testing.assert_allclose(share, [[0.25, 0], [0, 0]], atol=0.01)
    assert weight.min() == 1


def test_maps_are_weighted_by_the_lesion(model: FusionModel) -> None:
    backbone = model.backbones["tiny_a"]
    parts = keras.Model(
        backbone.input,
        [backbone.output, backbone.get_layer("joined").output, backbone.get_layer("softened").output],
    )
    maps, joined, weight = (np.asarray(x) for x in parts(np.random.default_rng(0).random((2, 32, 32, 3)) * 255))
    np.testing.assert_allclose(maps, joined * weight / weight.mean(axis=(1, 2), keepdims=True), rtol=1e-4)


@pytest.mark.slow
def test_it_learns_class_and_lesion_and_leaves_normalisation(
    tiny_backbones: tuple[str, str], images: Dataset
) -> None:
    model = build(structs.replace(TINY, backbones="tiny_a,tiny_b"))
    norm = model.backbones["tiny_a"].get_layer("norm")
    before, start = [np.array(w) for w in norm.get_weights()], weights_of(model)
    history = trained(model, images, structs.replace(TINY, epochs=12))
    assert len(history["loss"]) == 12
    for name in ("logit_loss", "tiny_a_lesion_loss", "tiny_b_lesion_loss"):
        assert np.mean(history[name][-3:]) < history[name][0]
    for old, new in zip(before, norm.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(start, weights_of(model))
    network, grids = with_lesions(model)
    assert set(network.output) == {"logit", *grids}
    image = np.zeros((1, 32, 32, 3), np.float32)
    probability = 1 / (1 + np.exp(-np.asarray(network(image)["logit"])))
    np.testing.assert_allclose(probability, model.full(image), atol=1e-5)


@pytest.mark.slow
def test_lesion_weight_zero_leaves_the_masks_out(model: FusionModel, images: Dataset) -> None:
    # A policy that does not look at the mask either.
    settings = structs.replace(TINY, lesion_weight=0.0, epochs=1, augment_policy=f"{__name__}:as_it_is")
    unmasked = replace(images, samples=tuple(replace(s, mask_path=None) for s in images.samples))
    trained(model, unmasked, settings)
    other = build(settings)
    trained(other, images, settings)
    np.testing.assert_allclose(weights_of(model), weights_of(other), atol=1e-6)


def as_it_is(image: np.ndarray, mask: Any, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
    return image, mask


class Killed(Exception):
    pass


@pytest.mark.slow
def test_an_interrupted_training_goes_on(tiny_backbones: tuple[str, str], images: Dataset, tmp_path: Path) -> None:
    whole, halves = build(TINY), build(TINY)
    history = trained(whole, images, backup=tmp_path / "whole")

    def die(event: object) -> None:
        if isinstance(event, EpochEnded) and event.epoch == 2:
            raise Killed

    with listening([die]), pytest.raises(Killed):
        trained(halves, images, backup=tmp_path / "halves")
    halves = build(TINY)
    epochs = []
    with listening([lambda event: epochs.append(event) if isinstance(event, EpochEnded) else None]):
        resumed = trained(halves, images, backup=tmp_path / "halves")
    assert [event.epoch for event in epochs][-1] == 3
    assert len(epochs) < 3
    np.testing.assert_allclose(weights_of(halves), weights_of(whole), atol=1e-4)
    np.testing.assert_allclose(resumed["loss"], history["loss"], atol=1e-4)


def test_a_backbone_without_a_finer_grid_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--maps lesion works with the backbones .*efficientnetlite0"):
        build_branch("vgg16", keras.Input((32, 32, 3)), weights="none", maps="lesion")


@pytest.mark.slow
def test_from_images_to_a_bundle(
    sonoedge: Callable[..., Result], tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path
) -> None:
    """Export checks logits and heat maps of its files against the Keras model and its gradient."""
    run = tmp_path / "run"
    options = ["--recipe", "compact", "--backbones", "tiny_a", "--weights", "none", "--input-size", 32, "--quiet"]
    found = sonoedge("train", "--data", phantoms, *options, "--epochs", 2, "--out", run)
    assert found.code == 0, found.err
    settings = open_settings(run)
    assert (settings["protocol"], settings["maps"], settings["epochs"]) == ("end-to-end", "lesion", 2)
    parts = open_model(run)
    assert parts.backbones["tiny_a"].output.shape[1:] == (15, 15, 128)
    assert load_model(run).count_params() == parts.full.count_params()
    found = sonoedge("export", "--model", run, "--format", "tflite-fp32", "--out", tmp_path / "bundle", "--quiet")
    assert found.code == 0, found.err
    assert sonoedge("verify", tmp_path / "bundle").code == 0


def open_settings(run: Path) -> dict[str, Any]:
    import json

    settings: dict[str, Any] = json.loads((run / "run.json").read_text())["settings"]
    return settings
