"""Activation statistics: one pass, resumed where it broke off; every rule gives usable ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.edge_runtime.files import sha256_bytes
from sonoedge.export.quantize.activations import collect_statistics
from sonoedge.export.quantize.ranges import ActivationStatistics, activation_ranges, clipped_share
from sonoedge.export.quantize.recipes import RANGES
from sonoedge.export.quantize.recorders import TFLiteRecorder
from tests.helpers.int8_models import SIZE, bench, two_branches

SAMPLES = arrays(np.float32, (4, 3, 16), elements=st.floats(-1e4, 1e4, width=32))


def statistics(samples: np.ndarray) -> ActivationStatistics:
    names = tuple(f"t{i}" for i in range(samples.shape[1]))
    return ActivationStatistics(names, samples.min(axis=2), samples.max(axis=2), samples)


@given(SAMPLES, st.sampled_from(RANGES))
@settings(max_examples=60)
def test_ranges_hold_zero_and_never_exceed_what_was_seen(samples: np.ndarray, rule: str) -> None:
    seen = statistics(samples)
    low, high = activation_ranges(seen, rule)
    assert (low[0], high[0]) == (0.0, 255.0)
    assert np.isfinite(low).all() and np.isfinite(high).all()
    assert (low <= 0).all() and (high >= 0).all()
    tolerance = 1e-5 * (1 + np.abs(samples).max())
    assert (low[1:] >= np.minimum(seen.minima.min(axis=0), 0)[1:] - tolerance).all()
    assert (high[1:] <= np.maximum(seen.maxima.max(axis=0), 0)[1:] + tolerance).all()
    clipped = clipped_share(seen, low, high)
    assert ((clipped >= 0) & (clipped <= 1)).all()
    if rule == "extremes":
        assert not clipped[1:].any()


def test_an_outlier_stretches_the_extremes_and_not_the_percentile() -> None:
    samples = np.random.default_rng(0).uniform(0, 1, (50, 2, 128)).astype(np.float32)
    samples[7, 1, 3] = 1000.0
    seen = statistics(samples)
    assert activation_ranges(seen, "extremes")[1][1] == 1000
    assert activation_ranges(seen, "percentile")[1][1] < 1.1


def test_least_squares_clips_a_rare_outlier() -> None:
    samples = np.random.default_rng(0).normal(0, 1, (50, 2, 128)).astype(np.float32)
    samples[0, 1, 0] = 30.0
    high = activation_ranges(statistics(samples), "mse")[1][1]
    assert 3 < high < 30


def test_every_tensor_can_have_a_rule_of_its_own() -> None:
    samples = np.random.default_rng(0).normal(0, 1, (5, 3, 64)).astype(np.float32)
    low, high = activation_ranges(statistics(samples), ["average", "extremes", "percentile"])
    for place, rule in ((1, "extremes"), (2, "percentile")):
        alone = activation_ranges(statistics(samples), rule)
        assert (low[place], high[place]) == (alone[0][place], alone[1][place])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return bench(tmp_path_factory.mktemp("ranges"), two_branches(None), images=2).source.tflite_float


def recorded(model: bytes) -> tuple[Callable[[], TFLiteRecorder], str]:
    return lambda: TFLiteRecorder(model), sha256_bytes(model)


def images(count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield rng.uniform(0, 255, (1, SIZE, SIZE, 3)).astype(np.float32)


def digests(count: int) -> list[str]:
    return [f"{i:064x}" for i in range(count)]


def test_minima_and_maxima_are_those_of_the_interpreter(model: bytes) -> None:
    from ai_edge_litert.interpreter import Interpreter

    found = collect_statistics(*recorded(model), images(2), digests(2))
    interpreter = Interpreter(model_content=model, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    by_name = {detail["name"]: detail["index"] for detail in interpreter.get_tensor_details()}
    for number, image in enumerate(images(2)):
        interpreter.set_tensor(by_name[found.names[0]], image)
        interpreter.invoke()
        for i, name in enumerate(found.names):
            value = interpreter.get_tensor(by_name[name])
            assert found.minima[number, i] == pytest.approx(value.min(), rel=1e-5, abs=1e-6)
            assert found.maxima[number, i] == pytest.approx(value.max(), rel=1e-5, abs=1e-6)
            assert np.isin(found.samples[number, i].round(3), value.round(3)).mean() > 0.99


def test_an_interrupted_calibration_goes_on(model: bytes, tmp_path: Path) -> None:
    count, whole_before = 7, 3
    consumed = 0

    def breaking() -> Iterator[np.ndarray]:
        for number, image in enumerate(images(count)):
            if number == whole_before:
                raise KeyboardInterrupt
            yield image

    with pytest.raises(KeyboardInterrupt):
        collect_statistics(*recorded(model), breaking(), digests(count), cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == whole_before

    def counting() -> Iterator[np.ndarray]:
        nonlocal consumed
        for image in images(count):
            consumed += 1
            yield image

    resumed = collect_statistics(*recorded(model), counting(), digests(count), cache=tmp_path)
    whole = collect_statistics(*recorded(model), images(count), digests(count))
    np.testing.assert_array_equal(resumed.minima, whole.minima)
    np.testing.assert_array_equal(resumed.samples, whole.samples)
    assert consumed == count
    assert len(list(tmp_path.iterdir())) == count
    other = collect_statistics(*recorded(model), images(3), [f"{i:064x}" for i in range(100, 103)], cache=tmp_path)
    assert len(other.minima) == 3
    assert len(list(tmp_path.iterdir())) == count + 3, "other images have entries of their own"


def test_another_run_that_shares_images_sees_only_the_others(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another order, too: what is kept of an image does not depend on the images before it."""
    first = collect_statistics(*recorded(model), images(4), digests(4), cache=tmp_path)
    monkeypatch.setattr(
        "sonoedge.export.quantize.recorders.TFLiteRecorder.values",
        lambda *_: pytest.fail("an image was seen twice"),
    )
    again = collect_statistics(*recorded(model), reversed(list(images(4))), digests(4)[::-1], cache=tmp_path)
    np.testing.assert_array_equal(again.samples, first.samples[::-1])


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no TensorFlow Lite file"):
        collect_statistics(*recorded(b"no flatbuffer at all"), images(1), digests(1))
