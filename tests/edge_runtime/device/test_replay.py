"""The verdict of `sonoedge verify`, on the small bundle of tests/vectors: every kind of deviation fails it."""

from __future__ import annotations

import numpy as np
import pytest

from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.device.replay import Golden, Replay, load_golden, replay
from tests.helpers.places import SMALL_BUNDLE

BUNDLE = SMALL_BUNDLE
NAME = "tflite-fp32"


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load_golden(load_bundle(BUNDLE))


def replayed(golden: Golden, key: str, change: float) -> Replay:
    return replay(load_bundle(BUNDLE), NAME, {**golden, key: golden[key] + np.float32(change)}, threads=1)


def test_the_bundle_as_it_is(golden: Golden) -> None:
    assert replayed(golden, f"{NAME}.logit", 0.0).passed


@pytest.mark.parametrize("key", [f"{NAME}.logit", "reference_logit", f"{NAME}.cam"])
@pytest.mark.parametrize("change", [0.5, -0.5, float("nan")])
def test_a_deviation_anywhere_fails(key: str, change: float, golden: Golden) -> None:
    """Of the logit from the export's, of the logit from Keras', of the map; no number at all is a deviation too."""
    assert not replayed(golden, key, change).passed


def test_what_did_not_run_has_not_passed() -> None:
    fine = Replay(NAME, 0.0, 0.0, 0.0, (1.0, 1.0, 1.0))
    assert fine.passed
    for reason in ({"skipped": "no interpreter"}, {"failure": "crashed"}):
        assert not Replay(NAME, 0.0, 0.0, 0.0, (1.0, 1.0, 1.0), **reason).passed
