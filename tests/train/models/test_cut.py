"""A model cut below its first trainable layer is the same model."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.evaluation.metrics import sigmoid
from sonoedge.train.fitting.feature_set import FeatureSet
from sonoedge.train.fitting.fine_tuning import fine_tune_tail
from sonoedge.train.fitting.heads import log_loss, temperature
from sonoedge.train.models.cut import cut, unfreeze
from sonoedge.train.models.fusion import FusionModel, HeadSpec, build_model
from sonoedge.train.records.settings import FitSettings


def images(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (count, size, size, 3)).astype(np.float32)


@pytest.fixture
def model(tiny_backbones: tuple[str, str]) -> FusionModel:
    keras.utils.set_random_seed(3)
    return build_model(tiny_backbones, weights="none", input_size=(32, 32), head=HeadSpec(units=(8,)))


def test_trunk_and_tail_give_the_whole_model(model: FusionModel) -> None:
    unfreeze(model, "tiny_b/last")
    tail = cut(model)
    assert tail.trunks["tiny_a"] is model.branches["tiny_a"]
    assert tail.trunks["tiny_b"].output.shape[1:] == (15, 15, 6)
    assert tail.row_bytes == 4 * (4 + 15 * 15 * 6)
    x = images(5, 32)
    parts = [trunk.predict(x, verbose=0) for trunk in tail.trunks.values()]
    np.testing.assert_allclose(
        tail.model.predict(parts, verbose=0), model.full.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        sigmoid(tail.logit.predict(parts, verbose=0)), model.full.predict(x, verbose=0), rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
def test_the_cut_goes_below_a_residual_connection() -> None:
    model = build_model(["mobilenetv2"], weights="none", input_size=(64, 64), head=HeadSpec(units=(4,)))
    # block_14 adds its input to its output: a cut inside the block would leave that path out.
    unfreeze(model, "mobilenetv2/(block_14_project|block_15.*)")
    tail = cut(model)
    x = images(2, 64)
    parts = tail.trunks["mobilenetv2"].predict(x, verbose=0)
    assert parts.shape == (2, 2, 2, 160)  # output of block_13, not a tensor within block_14
    features = model.branches["mobilenetv2"].predict(x, verbose=0)
    expected = model.head_logit.predict(features, verbose=0)
    assert np.ptp(expected) > 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(tail.logit.predict(parts, verbose=0), expected, rtol=1e-4)


def test_fine_tuning_the_tail_trains_the_whole_model_and_nothing_below(model: FusionModel) -> None:
    unfreeze(model, "tiny_b/last")
    tail = cut(model)
    x, y = images(24, 32), np.arange(24) % 2
    x[y == 1] *= 0.3
    data = FeatureSet({name: trunk.predict(x, verbose=0) for name, trunk in tail.trunks.items()}, y)
    layers = {name: model.backbones["tiny_b"].get_layer(name) for name in ("first", "norm", "last")}
    before = {name: [w.copy() for w in layer.get_weights()] for name, layer in layers.items()}
    start = log_loss(y, tail.logit.predict(data.inputs(), verbose=0).reshape(-1).astype(float))
    fine_tune_tail(tail, data, data, FitSettings(1e-2, 8, 8, 8), seed=0, progress=False)
    for name, layer in layers.items():
        same = all(np.array_equal(a, b) for a, b in zip(before[name], layer.get_weights(), strict=True))
        assert same == (name != "last")
    probability = model.full.predict(x, verbose=0).reshape(-1).astype(float)
    assert log_loss(y, np.log(probability) - np.log1p(-probability)) < start


@pytest.mark.parametrize("pattern", ["(", "tiny_b/nothing", "tiny_b/norm"])
def test_patterns_that_match_nothing_are_refused(model: FusionModel, pattern: str) -> None:
    with pytest.raises(UsageError, match="--fine-tune"):
        unfreeze(model, pattern)


@pytest.mark.parametrize("true", [0.7, 1.0, 4.0])
def test_temperature_is_recovered(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20_000)
    y = (rng.random(logits.size) < sigmoid(logits)).astype(np.int64)
    assert temperature(y, true * logits) == pytest.approx(true, rel=0.05)


def test_a_perfect_validation_set_does_not_make_the_model_infinitely_sure() -> None:
    y = np.array([0, 1, 0, 1])
    assert temperature(y, 9.0 * (2 * y - 1)) == pytest.approx(0.5, abs=0.01)
