"""Bundles of schema version 1, frozen in tests/vectors/schema-1, answer as they did."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sonoedge
from sonoedge.edge_runtime.bundle.contract import GATE_FILE, MANIFEST
from sonoedge.edge_runtime.bundle.manifest import load_bundle, parse_manifest, write_manifest
from sonoedge.edge_runtime.errors import BundleError
from tests.helpers.pictures import board, grey
from tests.helpers.places import VECTORS

OLD = VECTORS / "schema-1" / "cascade"
NEW = VECTORS / "cascade"


@pytest.mark.parametrize("part", ["", "first"])
def test_it_means_what_schema_2_says(part: str) -> None:
    old, new = load_bundle(OLD / part), load_bundle(NEW / part)
    assert json.loads((OLD / part / MANIFEST).read_text())["schema_version"] == 1
    assert replace(old, path=new.path) == new
    assert (old.schema_version, new.schema_version) == (1, 2)


def test_it_answers_the_same() -> None:
    for artifact in ("cascade", "tflite-int8", "tflite-fp32"):
        old, new = sonoedge.load(OLD, artifact), sonoedge.load(NEW, artifact)
        for picture in (grey(1), grey(2), board()):
            bodies = [{**model(picture).to_json(), "latency_ms": None} for model in (old, new)]
            assert bodies[0] == bodies[1]


def test_written_again_it_is_schema_2(tmp_path: Path) -> None:
    shutil.copytree(OLD / "first", tmp_path / "first")
    write_manifest(load_bundle(tmp_path / "first"))
    assert (tmp_path / "first" / MANIFEST).read_bytes() == (NEW / "first" / MANIFEST).read_bytes()


def test_a_metric_has_its_new_name() -> None:
    body = json.loads((OLD / MANIFEST).read_text())
    body["artifacts"][0]["metrics"]["ladder"] = [1]
    metrics = parse_manifest(body, OLD).artifacts[0].metrics
    assert metrics["candidates"] == [1] and "ladder" not in metrics


def test_without_its_gate_it_has_none(tmp_path: Path) -> None:
    body = json.loads((OLD / "first" / MANIFEST).read_text())
    assert parse_manifest(body, OLD / "first").gate == GATE_FILE
    assert parse_manifest(body, tmp_path).gate is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": 1}, "unknown keys: colour"),
        ({"decision": {"rule": "threshold", "label": "benign"}}, "unknown keys: decision"),
        ({"positive_label": "cyst"}, "'cyst' is not among"),
        ({"positive_label": 1}, "positive_label has the wrong type"),
        ({"artifacts": [1]}, r"artifacts\[0\] must be a JSON object"),
        ({"artifacts": [{"input_dtype": "float32"}]}, r"artifacts\[0\] has unknown keys: input_dtype"),
        ({"cascade": {}}, "cascade lacks"),
    ],
)
def test_it_is_read_as_strictly(change: dict[str, Any], words: str) -> None:
    body = {**json.loads((OLD / MANIFEST).read_text()), **change}
    with pytest.raises(BundleError, match=words):
        parse_manifest(body, OLD)
    del body["name"]
    with pytest.raises(BundleError):
        parse_manifest(body, OLD)
