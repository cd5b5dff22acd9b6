"""The out-of-domain gate: fitting, storing, reading, refusing."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sonoedge.edge_runtime.bundle.contract import GATE_FILE, Branch, Bundle, Decision, InputSpec
from sonoedge.edge_runtime.bundle.manifest import load_bundle, write_manifest
from sonoedge.edge_runtime.errors import BundleError, DataError
from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.edge_runtime.model.assess import assess
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.gate import GateResult, load_gate
from sonoedge.export.gate.fit import Limits, distances, fit_gate, limits_from, pack
from sonoedge.export.gate.views import another_view


def plain_bundle() -> Bundle:
    branches = (Branch("a", 2, 2, 20), Branch("b", 1, 1, 12))
    return Bundle(Path("x"), "x", ("n", "p"), Decision("threshold", "p"), InputSpec(8, 8), branches, (), {}, "")


def cloud(count: int, seed: int) -> np.ndarray:
    """Correlated features with a scale of their own per channel, and one channel that never moves."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(6, 32))
    scales = np.geomspace(0.01, 100, 32)
    x = (rng.normal(size=(count, 6)) @ mixing + 0.3 * rng.normal(size=(count, 32))) * scales + 5 * scales
    x[:, 3] = 2.0
    return x.astype(np.float32)


def test_distances_tell_inside_from_outside() -> None:
    gate = fit_gate(cloud(300, 0), plain_bundle(), directions=8)
    inside = distances(gate, cloud(200, 1))
    assert 0.7 < np.median(inside) < 1.4
    shifted = cloud(200, 2) + np.float32(4.0) * cloud(300, 0).std(axis=0)
    # Each channel on its own is usual, together they are not: the correlation is what a box would miss.
    shuffled = cloud(200, 3)
    rng = np.random.default_rng(0)
    for channel in range(32):
        shuffled[:, channel] = rng.permutation(shuffled[:, channel])
    assert distances(gate, shifted).min() > np.quantile(inside, 0.99)
    assert np.median(distances(gate, shuffled)) > np.quantile(inside, 0.99)
    limits = limits_from(distances(gate, cloud(200, 4)), distances(gate, cloud(400, 7)))
    assert limits.warning <= limits.threshold
    assert (inside > limits.threshold).mean() <= 0.02
    assert (inside > limits.warning).mean() <= 0.06


def test_distance_equals_the_full_covariance() -> None:
    features = cloud(400, 5)
    gate = fit_gate(features, plain_bundle(), directions=8)
    components = gate.components.astype(np.float64)
    covariance = components.T @ np.diag(gate.variances.astype(np.float64) - gate.noise) @ components
    covariance += gate.noise * np.eye(32)
    for row in cloud(5, 6):
        z = (row.astype(np.float64) - gate.mean) * gate.inverse_std
        expected = z @ np.linalg.solve(covariance, z) / 32
        # float16 components are not exactly orthonormal.
        assert gate.distance(row) == pytest.approx(expected, rel=2e-2)


def test_too_few_images() -> None:
    with pytest.raises(DataError, match="at least 4"):
        fit_gate(cloud(3, 0), plain_bundle())


def test_a_nan_is_outside() -> None:
    verdict = GateResult(float("nan"), 2.0, 1.0)
    assert not verdict.within_limit and not verdict.within_warning
    body = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert body == {"distance": None, "warning": 1.0, "threshold": 2.0}


@pytest.mark.parametrize(
    ("distance", "hints", "code"),
    [
        (0.5, (), "suspicious"),
        (1.5, (), "uncertain"),
        (2.5, (), "refused"),
        (0.5, ("colour",), "uncertain"),
        (1.5, ("colour",), "refused"),
        (1.5, ("overlay",), "uncertain"),
    ],
)
def test_two_levels_and_the_picture_itself(distance: float, hints: tuple[str, ...], code: str) -> None:
    """Unlike the training images is flagged; with a second sign, or far out, it is refused."""
    assert assess(plain_bundle(), 0.9, 0.5, gate=GateResult(distance, 2.0, 1.0), hints=hints).verdict == code


def test_the_gate_travels_in_the_bundle(gated: Bundle, phantoms: Path) -> None:
    assert GATE_FILE in (gated.path / "SHA256SUMS").read_text()
    gate = load_gate(gated, "tflite-fp32")
    assert gate is not None
    assert load_gate(gated, "openvino-fp32") is None
    classifier = Classifier(gated, "tflite-fp32")
    from sonoedge.edge_runtime.imaging.image import read_image

    phantom = read_image(find_images(phantoms)[1])
    assert gate.check(classifier.explain_raw(phantom)[1]).within_limit
    checkers = (np.indices((200, 200)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert not gate.check(classifier.explain_raw(np.repeat(checkers[..., None], 3, axis=2))[1]).within_limit


def test_a_bundle_without_a_gate(float_bundle: Path) -> None:
    assert load_gate(load_bundle(float_bundle), "tflite-fp32") is None


def damaged(gate_bytes: bytes, change: Any) -> bytes:
    with np.load(io.BytesIO(gate_bytes)) as archive:
        arrays = dict(archive)
    change(arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("mean"), "lacks an array"),
        (lambda a: a.update(mean=a["mean"][:3]), "mean must be finite and of shape"),
        (lambda a: a.update(noise=np.float32(np.nan)), "noise must be finite"),
        (lambda a: a.update(noise=np.float32(0)), "variances must be positive"),
        (lambda a: a.pop("warning.tflite-fp32"), "lacks an array"),
        (lambda a: a.update(branches=np.array(["other"])), "describes the branches"),
        (lambda a: a.update(mean=np.array(["x"] * len(a["mean"]))), "not of numbers"),
        (lambda a: a.update(components=np.float32(3)), "lacks an array"),
    ],
)
def test_a_gate_that_does_not_fit(gated: Bundle, change: Any, message: str) -> None:
    path = gated.path / GATE_FILE
    path.write_bytes(damaged(path.read_bytes(), change))
    write_manifest(gated)
    with pytest.raises(BundleError, match=message):
        load_gate(gated, "tflite-fp32")


@pytest.mark.parametrize("data", [b"", b"PK\3\4 not a zip", b"\x80\x04pickle"])
def test_a_gate_that_is_no_archive(gated: Bundle, data: bytes) -> None:
    (gated.path / GATE_FILE).write_bytes(data)
    with pytest.raises(BundleError, match=r"domain\.npz cannot be read"):
        load_gate(gated, "tflite-fp32")


def test_pack_is_small_and_reproducible() -> None:
    gate = fit_gate(cloud(300, 0), plain_bundle())
    data = pack(gate, {"x": Limits(warning=1.0, threshold=2.0)})
    assert data[:4] == b"PK\3\4"
    with np.load(io.BytesIO(data)) as archive:
        assert archive["components"].dtype == np.float16
        assert (float(archive["warning.x"]), float(archive["threshold.x"])) == (1.0, 2.0)


@given(
    image=arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    seed=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 9)),
)
def test_views_are_grey_images_and_repeat(image: np.ndarray, seed: tuple[int, int]) -> None:
    view = another_view(image, seed)
    assert view.dtype == np.uint8 and view.ndim == 3 and view.size
    assert (view == view[..., :1]).all()
    np.testing.assert_array_equal(view, another_view(image, seed))
    assert all(1 <= new <= old for new, old in zip(view.shape[:2], image.shape[:2], strict=True))


@pytest.mark.slow  # tests/export/gate fits the same gate, once
def test_the_command(tmp_path: Path, run_bundle: Path, tiny_run: Path, sonoedge: Any) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(run_bundle, folder)
    result = sonoedge("gate", "--bundle", folder, "--model", tiny_run, "--quiet", "--json")
    assert result.code == 0, result.err
    body = json.loads(result.out)
    assert body["views_through"] == "tflite-int8"
    assert set(body["limits"]) == {"tflite-fp32", "tflite-int8"}
    bundle = load_bundle(folder)
    assert load_gate(bundle, "tflite-int8") is not None
    assert sonoedge("verify", folder).code == 0
    again = sonoedge("gate", "--bundle", folder, "--model", tiny_run, "--quiet", "--artifacts", "tflite-fp32")
    assert again.code == 0
    assert load_gate(load_bundle(folder), "tflite-int8") is None
