"""The verdict of `sonoedge verify`, on the small bundle of tests/vectors: every kind of deviation fails it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.device.replay import Golden, Replay, load_golden, parse_golden, replay
from sonoedge.edge_runtime.errors import BundleError
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


def test_a_deviation_as_large_as_the_limit_passes() -> None:
    assert Replay(NAME, 1.0, 2.0, 3.0, (1.0, 2.0, 3.0)).passed
    assert not Replay(NAME, 1.0, 2.0, 3.1, (1.0, 2.0, 3.0)).passed


class Code:
    """What a pickle in golden.npz would run."""

    ran = False

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return _run, ()


def _run() -> int:
    Code.ran = True
    return 0


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", reference_logit=np.asarray([Code()], dtype=object))
    with pytest.raises(BundleError, match=r"golden\.npz cannot be read"):
        parse_golden((tmp_path / "golden.npz").read_bytes(), [])
    assert not Code.ran


def test_missing_golden_vectors_are_one_short_sentence(tmp_path: Path) -> None:
    bundle = replace(load_bundle(BUNDLE), path=tmp_path)
    with pytest.raises(BundleError, match=r"^golden\.npz cannot be read: No such file or directory$"):
        load_golden(bundle)
