"""The key of cached features tells every function from every other, and knows the same one again."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from sonoedge.train.features.cache import _cache_key
from sonoedge.train.models.fusion import HeadSpec, build_model, open_model


def branch(stride: int = 2, scale: float = 1.0, crossed: bool = False) -> keras.Model:
    """A nested model without weights that depend on any of the arguments."""
    inner = keras.Input((16, 16, 3))
    left = keras.layers.Rescaling(scale)(inner)
    right = keras.layers.Rescaling(2.0)(inner)
    joined = keras.layers.Subtract()([right, left] if crossed else [left, right])
    nested = keras.Model(inner, keras.layers.MaxPooling2D(2, strides=stride, padding="same")(joined), name="net")
    image = keras.Input((16, 16, 3), name="image")
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(nested(image)))


@pytest.mark.parametrize("other", [{"stride": 4}, {"scale": 0.5}, {"crossed": True}], ids=str)
def test_nested_models_are_known_by_all_that_they_do(other: dict[str, float]) -> None:
    """The names, weights and shapes of these are equal."""
    assert _cache_key(branch()) != _cache_key(branch(**other))  # type: ignore[arg-type]


def test_the_number_of_models_built_before_does_not_matter() -> None:
    first = _cache_key(branch())
    for _ in range(3):
        keras.layers.Rescaling(1.0)
    assert _cache_key(branch()) == first


@pytest.mark.parametrize("pooling", ["gap", "flatten"])
def test_a_model_from_a_file_shares_the_features_of_the_one_that_was_built(
    pooling: str, tiny_backbones: tuple[str, str], tmp_path: Path
) -> None:
    built = build_model(tiny_backbones, weights="none", input_size=(32, 32), head=HeadSpec(pooling, (8, 4)))
    built.full.save(tmp_path / "model.keras")
    opened = open_model(tmp_path / "model.keras")
    for name in tiny_backbones:
        assert _cache_key(opened.branches[name]) == _cache_key(built.branches[name])
