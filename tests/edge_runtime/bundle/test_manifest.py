"""The contract: what is written is read back equal, and every deviation is a BundleError."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, check_digests
from sonoedge.edge_runtime.bundle.contract import GOLDEN, MANIFEST, Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import BundleError, UsageError
from tests.helpers.bundles import BAD_PATHS, FILES, drop, rewrite, set_in, sign


def test_load_gives_back_what_was_written(bundle: Bundle) -> None:
    loaded = load_bundle(bundle.path)
    assert loaded == bundle
    assert load_bundle(str(bundle.path)) == bundle
    assert loaded.negative_label == "benign"
    assert (loaded.input.channels, loaded.input.low, loaded.input.high) == ("RGB", 0.0, 255.0)


def test_manifest_is_utf8_json_with_the_schema_version_first(bundle: Bundle) -> None:
    text = (bundle.path / MANIFEST).read_bytes().decode("utf-8")
    body = json.loads(text)
    assert next(iter(body.items())) == ("schema_version", 2)
    assert "Prüfling" in text
    assert "path" not in body


def test_artifact_by_name(bundle: Bundle) -> None:
    assert bundle.artifact("openvino-int8") is bundle.artifacts[1]
    with pytest.raises(UsageError, match=r"'onnx-fp32'.*tflite-fp32, openvino-int8"):
        bundle.artifact("onnx-fp32")


@pytest.mark.parametrize("name", [*FILES, MANIFEST, SHA256SUMS])
def test_missing_file(name: str, bundle: Bundle) -> None:
    (bundle.path / name).unlink()
    with pytest.raises(BundleError, match=name):
        load_bundle(bundle.path)


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", "tflite-fp32/backbone.tflite.tmp", "new/SHA256SUMS"])
def test_extra_file(name: str, bundle: Bundle) -> None:
    (bundle.path / name).parent.mkdir(exist_ok=True)
    (bundle.path / name).touch()
    with pytest.raises(BundleError, match=name):
        load_bundle(bundle.path)


def test_no_such_folder_and_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such bundle folder"):
        load_bundle(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="No such bundle folder"):
        load_bundle(tmp_path / "file")
    with pytest.raises(BundleError, match="is not a bundle"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("name", ["tflite-fp32/head.tflite", GOLDEN, MANIFEST, SHA256SUMS, "tflite-fp32"])
def test_links_are_refused_even_with_the_same_content(name: str, bundle: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.move(bundle.path / name, outside)
    (bundle.path / name).symlink_to(outside)
    with pytest.raises(BundleError, match="link"):
        load_bundle(bundle.path)


def test_a_pipe_is_not_a_model_file(bundle: Bundle) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    (bundle.path / "tflite-fp32/head.tflite").unlink()
    os.mkfifo(bundle.path / "tflite-fp32/head.tflite")
    sign(bundle.path)
    with pytest.raises(BundleError, match="does not hold"):
        load_bundle(bundle.path)


SCHEMA_ERRORS = {
    "unknown key": (set_in("extra", to=1), "unknown keys: extra"),
    "unknown key of an artifact": (set_in("artifacts", 1, "sha256", to="x"), r"artifacts\[1\] has unknown keys"),
    "unknown key of the input": (set_in("input", "mean", to=0), "input has unknown keys: mean"),
    "unknown key of a branch": (set_in("branches", 0, "depth", to=0), r"branches\[0\] has unknown keys: depth"),
    "missing key": (drop("provenance"), "lacks: provenance"),
    "missing key of an artifact": (drop("artifacts", 0, "threshold"), r"artifacts\[0\] lacks: threshold"),
    "missing key of the input": (drop("input", "resize"), "input lacks: resize"),
    "missing key of a branch": (drop("branches", 1, "name"), r"branches\[1\] lacks: name"),
    "other schema version": (set_in("schema_version", to=3), "schema_version 3; this version reads 1 and 2"),
    "schema version of long ago": (set_in("schema_version", to=0), "schema_version 0"),
    "schema version as a bool": (set_in("schema_version", to=True), "schema_version has the wrong type: bool"),
    "schema version as text": (set_in("schema_version", to="1"), "schema_version has the wrong type: str"),
    "name as a number": (set_in("name", to=1), "name has the wrong type"),
    "labels as text": (set_in("labels", to="ab"), "labels has the wrong type"),
    "one label": (set_in("labels", to=["malignant"]), "at least two"),
    "equal labels": (set_in("labels", to=["malignant", "malignant"]), "at least two different"),
    "empty label": (set_in("labels", to=["", "malignant"]), "at least two"),
    "a number as a label": (set_in("labels", to=[0, "malignant"]), "at least two"),
    "a list as a label": (set_in("labels", to=[["benign"], "malignant"]), "at least two"),
    "a decision for no label": (set_in("decision", "label", to="cyst"), "'cyst' is not among"),
    "another rule": (set_in("decision", "rule", to="argmax"), "decides by a threshold, not by 'argmax'"),
    "other reasons": (set_in("reasons", to=["shifted_view"]), "reasons must be"),
    "reasons of any kind": (set_in("reasons", to=[{}]), "reasons must be"),
    "a lesion map": (set_in("lesion_map", to={}), "draws no lesion maps"),
    "an overlay of labels": (set_in("site_overlay", to=["labels"]), "site_overlay must be some of"),
    "an overlay of any kind": (set_in("site_overlay", to=[[]]), "site_overlay must be some of"),
    "a gate by another name": (set_in("gate", to="gate.npz"), "gate must be"),
    "a gate that is not there": (
        set_in("gate", to="domain.npz"),
        "names domain.npz, which the bundle does not hold",
    ),
    "integer input": (set_in("artifacts", 0, "input_dtype", to="int8"), "sets and gets float32 only"),
    "integer output": (set_in("artifacts", 0, "output_dtype", to="uint8"), "sets and gets float32 only"),
    "input as a list": (set_in("input", to=[]), "input has the wrong type"),
    "height as a bool": (set_in("input", "height", to=True), "height has the wrong type: bool"),
    "height as a float": (set_in("input", "height", to=224.0), "height has the wrong type: float"),
    "height of zero": (set_in("input", "height", to=0), "must be positive"),
    "range as a bool": (set_in("input", "low", to=False), "low has the wrong type: bool"),
    "other range": (set_in("input", "high", to=1.0), "only runs RGB"),
    "range beyond float": (set_in("input", "high", to=10**400), "only runs RGB"),
    "other colour order": (set_in("input", "channels", to="BGR"), "only runs RGB"),
    "other resize rule": (set_in("input", "resize", to="letterbox"), "only runs RGB"),
    "branch as text": (set_in("branches", 0, to="vgg19"), r"branches\[0\] must be a JSON object"),
    "branch of no channels": (set_in("branches", 0, "channels", to=0), "positive sizes"),
    "channels as a bool": (set_in("branches", 0, "channels", to=True), "channels has the wrong type: bool"),
    "branch name with a slash": (set_in("branches", 0, "name", to="../x"), "feature map with a name"),
    "equal branches": (set_in("branches", 1, "name", to="vgg19"), "branch, each with a name of its own"),
    "no branches": (set_in("branches", to=[]), "at least one branch"),
    "no artifacts": (set_in("artifacts", to=[]), "at least one artifact"),
    "artifact as null": (set_in("artifacts", 0, to=None), r"artifacts\[0\] must be a JSON object"),
    "equal artifacts": (set_in("artifacts", 1, "name", to="tflite-fp32"), "artifact, each with a name of its own"),
    "artifact name in capitals": (set_in("artifacts", 0, "name", to="TFLite"), "lower-case letters"),
    "artifact name with a slash": (set_in("artifacts", 0, "name", to="a/b"), "lower-case letters"),
    "unknown runtime": (set_in("artifacts", 0, "runtime", to="torch"), "'torch' is unknown"),
    "negative threshold": (set_in("artifacts", 0, "threshold", to=-0.1), "must be a probability"),
    "threshold above one": (set_in("artifacts", 0, "threshold", to=1.01), "must be a probability"),
    "threshold not a number": (set_in("artifacts", 0, "threshold", to=float("nan")), "NaN is not a JSON number"),
    "threshold as a bool": (set_in("artifacts", 0, "threshold", to=True), "threshold has the wrong type: bool"),
    "threshold as text": (set_in("artifacts", 0, "threshold", to="0.5"), "threshold has the wrong type: str"),
    "size as a bool": (set_in("artifacts", 0, "size_bytes", to=False), "size_bytes has the wrong type: bool"),
    "size as a float": (set_in("artifacts", 0, "size_bytes", to=1.5), "size_bytes has the wrong type: float"),
    "metrics as a list": (set_in("artifacts", 0, "metrics", to=[]), "metrics has the wrong type"),
    "recipe as text": (set_in("artifacts", 0, "recipe", to="w8a8"), "recipe has the wrong type"),
    "backbone not in the bundle": (set_in("artifacts", 0, "backbone", to="none.tflite"), "does not hold"),
    "backbone is a folder": (set_in("artifacts", 0, "backbone", to="tflite-fp32"), "does not hold"),
    "empty path": (set_in("artifacts", 0, "head", to=""), "not a plain path"),
}


@pytest.mark.parametrize("case", SCHEMA_ERRORS)
def test_schema_errors(case: str, bundle: Bundle) -> None:
    change, message = SCHEMA_ERRORS[case]
    rewrite(bundle.path, change)
    check_digests(bundle.path)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle.path)


def test_every_key_is_needed(bundle: Bundle) -> None:
    original = json.loads((bundle.path / MANIFEST).read_text(encoding="utf-8"))
    for keys in ((), ("input",), ("branches", 0), ("artifacts", 0)):
        record = original
        for key in keys:
            record = record[key]
        for key in record:
            rewrite(bundle.path, lambda _: copy.deepcopy(original))
            rewrite(bundle.path, drop(*keys, key))
            with pytest.raises(BundleError, match=f"lacks: {key}"):
                load_bundle(bundle.path)


@pytest.mark.parametrize("threshold", [0, 1, 0.0, 1.0])
def test_threshold_may_be_zero_or_one(threshold: float, bundle: Bundle) -> None:
    rewrite(bundle.path, set_in("artifacts", 0, "threshold", to=threshold))
    assert load_bundle(bundle.path).artifacts[0].threshold == threshold


@pytest.mark.parametrize("key", ["backbone", "head"])
@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_in_the_manifest(path: str, key: str, bundle: Bundle) -> None:
    (bundle.path.parent / "outside.tflite").write_bytes(b"outside")
    rewrite(bundle.path, set_in("artifacts", 0, key, to=path))
    with pytest.raises(BundleError, match=f"{key} is not a plain path"):
        load_bundle(bundle.path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"not json",
        b'{"schema_version": 1',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"schema_version": ' + b"1" * 5000 + b"}",
    ],
    ids=["empty", "brace", "text", "cut", "not utf-8", "deep", "long number"],
)
def test_manifest_that_is_not_json(data: bytes, bundle: Bundle) -> None:
    (bundle.path / MANIFEST).write_bytes(data)
    sign(bundle.path)
    with pytest.raises(BundleError, match="not valid JSON"):
        load_bundle(bundle.path)


@pytest.mark.parametrize("body", [[], [1], None, 1, "text", True])
def test_manifest_that_is_not_an_object(body: Any, bundle: Bundle) -> None:
    (bundle.path / MANIFEST).write_text(json.dumps(body))
    sign(bundle.path)
    with pytest.raises(BundleError, match="must be a JSON object"):
        load_bundle(bundle.path)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


PLACES = [
    ("labels",), ("positive_label",), ("input",), ("branches",), ("artifacts",), ("labels", 0), ("branches", 0),
    ("input", "height"), ("input", "high"), ("branches", 0, "name"), ("branches", 0, "width"), ("artifacts", 0),
    ("artifacts", 0, "name"), ("artifacts", 0, "runtime"), ("artifacts", 0, "backbone"),
    ("artifacts", 0, "threshold"),
]  # fmt: skip


@pytest.mark.long
@settings(max_examples=150)
@given(keys=st.sampled_from(PLACES), value=JSON_VALUES)
def test_any_other_json_value_is_a_bundle_error_or_a_bundle(
    keys: tuple[str | int, ...], value: Any, shared: Path
) -> None:
    original = (shared / MANIFEST).read_bytes()
    rewrite(shared, set_in(*keys, to=value))
    try:
        assert isinstance(load_bundle(shared), Bundle)
    except BundleError:
        pass
    finally:
        (shared / MANIFEST).write_bytes(original)
        sign(shared)
