"""``sonoedge export --target``, from the command line to a bundle that runs, explains and is verified."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, digests_text
from sonoedge.edge_runtime.bundle.contract import MANIFEST
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import BundleError
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.serve.station import Station
from sonoedge.export import export
from tests.helpers.commands import Result

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def integer_bundle(small_keras: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("integer") / "bundle"
    export(
        small_keras, labels="benign,malignant", formats="tflite-int8,tflite-fp32", target="edgetpu",
        precision="w8a8", calibration_data=phantoms, gate=False, out=out,
    )  # fmt: skip
    return out


def test_the_bundle_says_what_the_file_is(integer_bundle: Path) -> None:
    bundle = load_bundle(integer_bundle)
    integer, exact = bundle.artifact("tflite-int8"), bundle.artifact("tflite-fp32")
    assert (integer.input_dtype, integer.output_dtype) == ("int8", "int8")
    assert (exact.input_dtype, exact.output_dtype) == ("float32", "float32")
    assert integer.metrics["target"]["name"] == "edgetpu" and "target" not in exact.metrics
    card = (integer_bundle / "MODEL_CARD.md").read_text()
    assert "int8 from its input (image - 128)" in card and "- tflite-int8 for edgetpu: " in card


def test_it_is_verified_and_explains_as_float_does(sonoedge: Run, integer_bundle: Path) -> None:
    result = sonoedge("verify", integer_bundle)
    assert result.code == 0, result.err
    with np.load(integer_bundle / "golden.npz") as golden:
        image = golden["image_0"]
    logits, cams = [], []
    for name in ("tflite-int8", "tflite-fp32"):
        classifier = Classifier(integer_bundle, name)
        prediction, arrays = classifier.explain_raw(image)
        logits.append(prediction.logit)
        cams.append(arrays["cam"].ravel())
    assert logits[0] != logits[1]
    assert cams[0] @ cams[1] / np.linalg.norm(cams[0]) / np.linalg.norm(cams[1]) > 0.98


def test_browsers_are_given_only_files_that_they_run(integer_bundle: Path) -> None:
    station = Station(integer_bundle, "tflite-int8")
    station.open()
    info = station.describe()
    assert [item["name"] for item in info["browser_artifacts"]] == ["tflite-fp32"]
    assert info["int8_only"] is False
    station.bundle = replace(station.bundle, artifacts=(station.bundle.artifact("tflite-int8"),))
    assert (station.describe()["browser_artifacts"], station.describe()["int8_only"]) == ([], True)
    station.close()


def test_a_manifest_that_does_not_fit_the_file_is_refused(integer_bundle: Path, tmp_path: Path) -> None:
    for name, value in (("input_dtype", "uint8"), ("output_dtype", "float32"), ("both", "float32")):
        copy = tmp_path / name
        copy.mkdir()
        for file in integer_bundle.rglob("*"):
            if file.is_file():
                (copy / file.relative_to(integer_bundle)).parent.mkdir(parents=True, exist_ok=True)
                (copy / file.relative_to(integer_bundle)).write_bytes(file.read_bytes())
        body = json.loads((copy / MANIFEST).read_text())
        for key in ("input_dtype", "output_dtype") if name == "both" else (name,):
            body["artifacts"][0][key] = value
        (copy / MANIFEST).write_text(json.dumps(body))
        (copy / SHA256SUMS).write_text(digests_text(copy))
        with pytest.raises(BundleError, match="int8"):
            Classifier(copy, "tflite-int8")
