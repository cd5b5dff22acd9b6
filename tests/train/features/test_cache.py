"""The frozen-feature cache: computed once, found again, repaired when damaged."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from sonoedge.train.data.dataset import Dataset, load_dataset
from sonoedge.train.features import cache as features
from sonoedge.train.features.cache import compute_features, cost_in_words, extract_features
from sonoedge.train.models.fusion import FusionModel, build_model

SIZE = (32, 32)


@pytest.fixture
def dataset(phantoms: Path) -> Dataset:
    return load_dataset(phantoms).select(range(20))


@pytest.fixture
def model(tiny_backbones: tuple[str, str]) -> FusionModel:
    keras.utils.set_random_seed(3)
    return build_model(tiny_backbones, weights="none", input_size=SIZE)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that were decoded, one entry each time."""
    seen: list[str] = []
    read_image = features.read_image

    def counting(path: Path) -> np.ndarray:
        seen.append(path.name)
        return read_image(path)

    monkeypatch.setattr(features, "read_image", counting)
    return seen


def shards(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.npz"))


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_each_image_is_seen_once(model: FusionModel, dataset: Dataset, tmp_path: Path, decoded: list[str]) -> None:
    first = extract_features(model.branches, dataset.samples, cache=tmp_path)
    assert len(decoded) == 20
    assert {name: x.shape for name, x in first.items()} == {"tiny_a": (20, 4), "tiny_b": (20, 6)}
    same(extract_features(model.branches, dataset.samples, cache=tmp_path), first)
    assert len(decoded) == 20
    same(
        {name: x.astype(np.float32) for name, x in compute_features(model.branches, dataset.samples).items()}, first
    )


def test_another_order_and_repeated_images(
    model: FusionModel, dataset: Dataset, tmp_path: Path, decoded: list[str]
) -> None:
    first = extract_features(model.branches, dataset.samples, cache=tmp_path)
    order = [3, 3, 19, 0]
    again = extract_features(model.branches, dataset.select(order).samples, cache=tmp_path)
    assert len(decoded) == 20
    same(again, {name: x[order] for name, x in first.items()})


def test_a_backbone_does_not_see_an_image_again_for_the_sake_of_another(
    model: FusionModel, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = extract_features({"tiny_a": model.branches["tiny_a"]}, dataset.samples, cache=tmp_path)
    monkeypatch.setattr(model.branches["tiny_a"], "predict_on_batch", lambda _: pytest.fail("seen again"))
    both = extract_features(model.branches, dataset.samples, cache=tmp_path)
    np.testing.assert_array_equal(both["tiny_a"], alone["tiny_a"])
    assert both["tiny_b"].shape == (20, 6)


def test_features_equal_the_full_model(model: FusionModel, dataset: Dataset, tmp_path: Path) -> None:
    found = extract_features(model.branches, dataset.samples, cache=tmp_path)
    batch = np.stack([features.load_input(sample, 0, SIZE) for sample in dataset.samples])
    for name, branch in model.branches.items():
        np.testing.assert_allclose(found[name], branch.predict_on_batch(batch), rtol=1e-5, atol=1e-5)


def test_an_interrupted_run_keeps_finished_shards(
    model: FusionModel, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    monkeypatch.setattr(features, "SHARD_IMAGES", 8)
    run = features._run
    calls = []

    def failing(*args: object) -> dict[str, np.ndarray]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(*args)

    monkeypatch.setattr(features, "_run", failing)
    with pytest.raises(KeyboardInterrupt):
        extract_features(model.branches, dataset.samples, cache=tmp_path)
    assert len(shards(tmp_path)) == 2  # one for each backbone
    monkeypatch.setattr(features, "_run", run)
    decoded.clear()
    extract_features(model.branches, dataset.samples, cache=tmp_path)
    assert len(decoded) == 12


@pytest.mark.parametrize("damage", [b"", b"not a shard"])
def test_a_damaged_shard_is_computed_again(
    model: FusionModel,
    dataset: Dataset,
    tmp_path: Path,
    decoded: list[str],
    damage: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = extract_features(model.branches, dataset.samples, cache=tmp_path)
    damaged = shards(tmp_path)[0]
    damaged.write_bytes(damage)
    decoded.clear()
    same(extract_features(model.branches, dataset.samples, cache=tmp_path), first)
    assert len(decoded) == 20
    assert damaged.name in caplog.text


def test_other_weights_have_features_of_their_own(
    model: FusionModel, dataset: Dataset, tmp_path: Path, decoded: list[str]
) -> None:
    first = extract_features(model.branches, dataset.samples, cache=tmp_path)
    layer = model.backbones["tiny_a"].get_layer("first")
    layer.set_weights([2 * weight for weight in layer.get_weights()])
    second = extract_features(model.branches, dataset.samples, cache=tmp_path)
    assert len(decoded) == 40
    assert not np.allclose(first["tiny_a"], second["tiny_a"])
    np.testing.assert_array_equal(first["tiny_b"], second["tiny_b"])


def test_augmented_copies_are_reproducible_and_differ(model: FusionModel, dataset: Dataset, tmp_path: Path) -> None:
    found = extract_features(model.branches, dataset.samples, cache=tmp_path / "a", copies=2)
    assert found["tiny_a"].shape == (60, 4)
    plain, first, second = np.split(found["tiny_a"], 3)
    assert not np.allclose(plain, first)
    assert not np.allclose(first, second)
    same(extract_features(model.branches, dataset.samples, cache=tmp_path / "b", copies=2), found)


def test_a_full_disk_is_an_error_and_leaves_no_part(
    model: FusionModel, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sonoedge.edge_runtime.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        extract_features(model.branches, dataset.samples, cache=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_cost_is_told_beforehand(
    model: FusionModel, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many images, and from `TIMED_FROM` on how long they take; nothing once the cache knows them."""

    def told() -> str | None:
        return cost_in_words(model.branches, dataset.samples, dataset.samples[:5], 2, tmp_path)

    few = "features of 20 images and 10 augmented copies, 30 of them not in the cache"
    assert told() == few
    monkeypatch.setattr(features, "TIMED_FROM", 30)
    assert str(told()).startswith(f"{few}: about ") and str(told()).endswith((" s here", " minutes here"))
    extract_features(model.branches, dataset.samples, cache=tmp_path)
    assert "10 of them not" in str(told())
    extract_features(model.branches, dataset.samples[:5], cache=tmp_path, copies=2)
    assert told() is None
