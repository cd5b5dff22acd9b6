"""tests/vectors is what edge_runtime computes today: a port that agrees with it agrees with Python."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, digests_text
from sonoedge.edge_runtime.bundle.contract import MANIFEST
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.device.replay import load_golden, replay
from sonoedge.edge_runtime.errors import BundleError, SonoEdgeError
from sonoedge.edge_runtime.model.assess import REASONS, VERDICTS
from sonoedge.edge_runtime.model.cascade import Cascade
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.words import words
from tests.helpers.places import ROOT

VECTORS = ROOT / "tests" / "vectors"
ERRORS = json.loads((VECTORS / "bundle_errors.json").read_text())
CASCADE_ERRORS = json.loads((VECTORS / "cascade_errors.json").read_text())


@pytest.fixture(scope="module")
def writer() -> Any:
    """scripts/write_vectors.py as a module."""
    spec = importlib.util.spec_from_file_location("write_vectors", ROOT / "scripts" / "write_vectors.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unpack(value: dict[str, Any]) -> np.ndarray:
    dtype = np.dtype(value["dtype"]).newbyteorder("<")
    return np.frombuffer(base64.b64decode(value["data"]), dtype).reshape(value["shape"])


def assert_same(new: Any, old: Any, where: str) -> None:
    """Equal, floats to 1e-4 (relative, or 1e-4): another processor's kernels may round differently."""
    if isinstance(new, dict) and "dtype" in new:
        assert (new["dtype"], new["shape"]) == (old["dtype"], old["shape"]), where
        exact = new["dtype"] == "uint8"
        np.testing.assert_allclose(unpack(new), unpack(old), rtol=0 if exact else 1e-4, atol=0 if exact else 1e-4)
    elif isinstance(new, dict):
        assert set(new) == set(old), where
        for key, value in new.items():
            assert_same(value, old[key], f"{where}.{key}")
    elif isinstance(new, list):
        assert len(new) == len(old), where
        for i, value in enumerate(new):
            assert_same(value, old[i], f"{where}[{i}]")
    elif isinstance(new, float):
        assert new == pytest.approx(old, rel=1e-4, abs=1e-4), where
    else:
        assert new == old, where


@pytest.mark.long
def test_the_files_are_current(writer: Any, tmp_path: Path) -> None:
    writer.write(tmp_path)
    for path in sorted(tmp_path.rglob("*")):
        kept = VECTORS / path.relative_to(tmp_path)
        if path.suffix == ".json":
            assert_same(json.loads(path.read_text()), json.loads(kept.read_text()), path.name)
        else:
            assert kept.exists(), path.name
    names = {p.name for p in tmp_path.iterdir()}
    assert {p.name for p in VECTORS.iterdir()} == names | {"bundle", "cascade", "schema-1"}


def test_the_answers_decide_both_ways() -> None:
    answers = json.loads((VECTORS / "answers.json").read_text())
    assert {case["label"] for case in answers} == {"benign", "malignant"}


def test_both_models_of_the_cascade_decide_both_ways() -> None:
    for name in ("cascade_answers", "cascade_decisions"):
        cases = json.loads((VECTORS / f"{name}.json").read_text())
        assert {case["artifact"].rpartition("/")[0] for case in cases} == {"", "first"}
        assert len({(case["artifact"], case["label"]) for case in cases}) == 4


def test_the_verdicts_are_of_every_kind_and_nothing_of_a_refused_picture_is_left() -> None:
    cases = json.loads((VECTORS / "verdicts.json").read_text())
    assert {case["verdict"] for case in cases} == set(VERDICTS)
    assert {reason for case in cases for reason in case["reasons"]} == set(REASONS) - {"shifted_view"}
    assert {case["artifact"] for case in cases if case["bundle"] == "cascade"} == {
        "first/tflite-int8",
        "tflite-fp32",
    }
    for case in cases:
        numbers = [case[key] for key in ("label", "probability", "logit")]
        assert (None in numbers) == (case["verdict"] == "refused" and case["gated"])
        assert case["band"] is None or (case["verdict"] != "refused" and case["views"] > 1)
    assert {q for case in json.loads((VECTORS / "quality.json").read_text()) for q in case["hints"]} == set(
        words()["hints"]
    )


@pytest.mark.parametrize("artifact", ["first/tflite-int8", "tflite-fp32"])
def test_the_cascade_replays(artifact: str) -> None:
    model = Cascade(load_bundle(VECTORS / "cascade"), threads=1).models[artifact]
    assert replay(model.bundle, model.artifact.name, load_golden(model.bundle), threads=1).passed


@pytest.mark.parametrize("artifact", ["tflite-int8", "tflite-fp32"])
def test_the_small_bundle_replays(artifact: str) -> None:
    bundle = load_bundle(VECTORS / "bundle")
    assert replay(bundle, artifact, load_golden(bundle), threads=1).passed
    assert Classifier(bundle, artifact, threads=1).input_size == (48, 48)


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: json.dumps(case["change"])[:60])
def test_a_changed_bundle_is_refused_in_these_words(case: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(VECTORS / "bundle", folder)
    load_bundle(folder)
    apply_change(folder, case["change"])
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    for word in case["words"]:
        assert word in str(caught.value)


@pytest.mark.parametrize("case", CASCADE_ERRORS, ids=lambda case: json.dumps(case["change"])[:60])
def test_a_changed_cascade_is_refused_in_these_words(case: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "cascade"
    shutil.copytree(VECTORS / "cascade", folder)
    apply_change(folder, case["change"])
    with pytest.raises(SonoEdgeError) as caught:
        Cascade(load_bundle(folder), threads=1)
    for word in case["words"]:
        assert word in str(caught.value)


def apply_change(folder: Path, change: dict[str, Any]) -> None:
    """See `bundle_error_vectors` in scripts/vectors/errors.py."""
    kind = next(iter(change))
    if inner := change.get("folder"):
        apply_change(folder / inner, {key: value for key, value in change.items() if key != "folder"})
        (folder / SHA256SUMS).write_text(digests_text(folder))
    elif kind == "delete":
        (folder / change[kind]).unlink()
    elif kind == "add":
        (folder / change[kind]).touch()
    elif kind == "truncate":
        data = (folder / change[kind]).read_bytes()
        (folder / change[kind]).write_bytes(data[: len(data) // 2])
    elif kind == "flip":
        data = bytearray((folder / change[kind]).read_bytes())
        data[-1] ^= 1
        (folder / change[kind]).write_bytes(data)
    elif kind == "sums":
        text = (folder / SHA256SUMS).read_text()
        assert change[kind][0] in text
        (folder / SHA256SUMS).write_text(text.replace(*change[kind]))
    elif kind == "text":
        (folder / MANIFEST).write_text(change[kind])
        (folder / SHA256SUMS).write_text(digests_text(folder))
    elif kind == "replace":
        text = (folder / MANIFEST).read_text()
        assert change[kind][0] in text
        (folder / MANIFEST).write_text(text.replace(*change[kind]))
        (folder / SHA256SUMS).write_text(digests_text(folder))
    else:
        body = json.loads((folder / MANIFEST).read_text())
        *path, last = change[kind]
        target = body
        for key in path:
            target = target[key]
        if change.get("remove"):
            del target[last]
        else:
            target[last] = change["value"]
        (folder / MANIFEST).write_text(json.dumps(body))
        (folder / SHA256SUMS).write_text(digests_text(folder))
