"""``sonoedge export``: Keras model -> bundle -> the real interpreters -> the same answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sonoedge.edge_runtime.bundle.checksums import check_digests
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.device.replay import load_golden
from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.export.bundle import pipeline
from sonoedge.export.formats import FORMATS
from sonoedge.train.models.fusion import load_model
from tests.helpers.commands import Result
from tests.helpers.models import model_inputs

Run = Callable[..., Result]


def keras_logits(model: Path, images: list[Path], size: int) -> np.ndarray:
    probability = load_model(model).predict(model_inputs(images, size), verbose=0).astype(np.float64)[:, 0]
    return np.log(probability) - np.log1p(-probability)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_agrees_with_keras(name: str, full_bundle: Path, small_keras: Path, phantoms: Path) -> None:
    images = find_images(phantoms / "malignant")[:6]
    wanted = keras_logits(small_keras, images, 48)
    classifier = Classifier(full_bundle, name)
    found = np.array([classifier(path, ungated=True).logit for path in images])
    row = FORMATS[name]
    scale = max(1.0, float(np.abs(wanted).max()))
    # int8 and dynamic: not a promise, but a broken scale or zero point would be far outside.
    limit = 0.3 * scale if row.logit_tolerance is None else row.logit_tolerance * scale
    assert np.abs(found - wanted).max() <= limit
    assert np.ptp(wanted) > 0.05, "the images must differ for the comparison to mean anything"


def test_formats_keep_the_tables_order_and_files(full_bundle: Path) -> None:
    bundle = load_bundle(full_bundle)
    assert [artifact.name for artifact in bundle.artifacts] == list(FORMATS)
    for artifact in bundle.artifacts:
        row = FORMATS[artifact.name]
        assert artifact.runtime == row.runtime
        assert artifact.backbone == f"{row.name}/backbone{row.suffix}"
        files = list((full_bundle / row.name).iterdir())
        assert artifact.size_bytes == sum(path.stat().st_size for path in files)


def test_the_bundle_says_where_it_comes_from(run_bundle: Path, tiny_run: Path) -> None:
    bundle = load_bundle(run_bundle)
    card = json.loads((tiny_run / "run.json").read_text())
    training = bundle.provenance["training"]
    assert training["dataset_digest"] == card["dataset"]["digest"]
    assert {name: len(digests) for name, digests in training["subsets"].items()} == card["dataset"]["images"]
    assert bundle.provenance["calibration"]["images"] == 8
    assert bundle.provenance["calibration"]["source"] == "training split"
    # A bundle travels: it must not tell where things lay on the workstation.
    manifest = (run_bundle / "bundle.json").read_text() + (run_bundle / "MODEL_CARD.md").read_text()
    assert str(tiny_run.parent) not in manifest
    assert "Research use only" in manifest
    assert card["subgroups"]
    assert all(f"| {name} | {part['images']} (" in manifest for name, part in card["subgroups"].items())


def test_golden_vectors_are_generated_images_of_several_sizes(full_bundle: Path) -> None:
    golden = load_golden(load_bundle(full_bundle))
    shapes = {golden[f"image_{i}"].shape for i in range(len(golden["reference_logit"]))}
    assert len(shapes) >= 4
    assert all(golden[f"{name}.logit"].shape == golden["reference_logit"].shape for name in FORMATS)


def test_verify_and_predict(sonoedge: Run, full_bundle: Path, phantoms: Path) -> None:
    verified = sonoedge("verify", full_bundle, "--json")
    assert verified.code == 0
    assert {row["artifact"]: row["passed"] for row in json.loads(verified.out)["artifacts"]} == dict.fromkeys(
        FORMATS, True
    )
    image = phantoms / "benign" / "benign_0001_a.png"
    answers = {}
    for name in FORMATS:
        result = sonoedge("predict", "--bundle", full_bundle, "--artifact", name, "--json", image)
        assert result.code == 0
        answers[name] = json.loads(result.out)
    for name, answer in answers.items():
        documented = ["image", "label", "probability", "logit", "threshold", "artifact", "latency_ms"]
        assert list(answer) == [*documented, "verdict", "reasons", "text", "gate"]
        assert answer["artifact"] == name
        assert answer["image"] == str(image)
        assert set(answer["latency_ms"]) == {"decode", "resize", "invoke", "head"}
        assert answer["probability"] == pytest.approx(1 / (1 + np.exp(-answer["logit"])), abs=1e-5)


def test_a_changed_byte_stops_everything(sonoedge: Run, run_bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(run_bundle, copy)
    weights = copy / "tflite-int8" / "backbone.tflite"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    for arguments in (["verify", copy], ["predict", "--bundle", copy, phantoms / "benign"]):
        result = sonoedge(*arguments)
        assert result.code == 4
        assert result.err.count("\n") == 1
        assert "tflite-int8/backbone.tflite has changed" in result.err


def test_a_swapped_artifact_is_found_by_the_replay(sonoedge: Run, full_bundle: Path, tmp_path: Path) -> None:
    """Digests that fit, but files that belong to another artifact's results."""
    from dataclasses import replace

    from sonoedge.edge_runtime.bundle.manifest import write_manifest

    copy = tmp_path / "bundle"
    shutil.copytree(full_bundle, copy)
    shutil.copyfile(copy / "tflite-int8" / "backbone.tflite", copy / "tflite-fp32" / "backbone.tflite")
    bundle = load_bundle(full_bundle)
    write_manifest(replace(bundle, path=copy))
    check_digests(copy)
    result = sonoedge("verify", copy)
    assert result.code == 5
    assert "tflite-fp32 does not reproduce" in result.err


@pytest.mark.slow
def test_as_typed(sonoedge: Run, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``export --format tflite-…`` takes the newest run under ./runs and writes ./bundle."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, tmp_path / "runs" / "mine")
    result = sonoedge("export", "--format", "tflite-fp16", "--quiet")
    assert result.code == 0
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.name == "mine"
    assert [artifact.name for artifact in bundle.artifacts] == ["tflite-fp16"]
    assert "Research use only" in result.out


@pytest.mark.slow  # quantize/test_openvino.py, guard/test_int8.py: the same of small models
def test_the_same_export_again_gives_the_same_int8_file(
    sonoedge: Run, run_bundle: Path, tiny_run: Path, tmp_path: Path
) -> None:
    arguments = ["--model", tiny_run, "--format", "tflite-int8", "--precision", "w8a8", "--quiet"]
    arguments += [
        "--num-calibration-samples",
        8,
        "--quantized-cache",
        tmp_path / "cache",
        "--out",
        tmp_path / "bundle",
    ]
    assert sonoedge("export", *arguments).code == 0
    first, second = (folder / "tflite-int8" / "backbone.tflite" for folder in (run_bundle, tmp_path / "bundle"))
    assert first.read_bytes() == second.read_bytes()


BAD = [
    (["--format", "tflite-int9"], 2, "Formats: "),
    (["--format", ","], 2, "Unknown format"),
    (["--model", "nowhere"], 6, "No such run folder"),
    (["--model", "nowhere.keras", "--labels", "benign,malignant"], 6, "No such model file"),
    (["--model", "broken.keras", "--labels", "benign,malignant"], 6, "cannot be read as a Keras model"),
    (["--model", "SMALL"], 2, "--labels"),
    (["--model", "SMALL", "--labels", "a,b", "--format", "tflite-int8"], 2, "--calibration-data"),
    (["--model", "SMALL", "--labels", "a,b", "--split-layer", "nosuch"], 6, "no top-level layer 'nosuch'"),
    (["--threshold", "1.5"], 2, "probability"),
    (["--max-drop", "-0.1"], 2, "--max-drop"),
    (["--format", "tflite-int8", "--num-calibration-samples", "0"], 2, "--num-calibration-samples"),
    (["--format", "tflite-int8", "--data", "nowhere"], 3, "--data"),
    (["--out", "taken"], 2, "will not be replaced"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"), BAD, ids=lambda v: "-".join(v) if isinstance(v, list) else ""
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str],
    code: int,
    message: str,
    sonoedge: Run,
    small_keras: Path,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("years of work")
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 not a model")
    before = {path.name for path in tmp_path.iterdir()}
    defaults = ["--format", "tflite-fp32", "--model", str(tiny_run), "--out", "bundle", "--quiet"]
    result = sonoedge("export", *defaults, *[argument.replace("SMALL", str(small_keras)) for argument in arguments])
    assert result.code == code
    error = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert message in error[0]
    assert "Traceback" not in result.err
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_export_that_breaks_off_keeps_the_old_bundle(
    error: BaseException,
    sonoedge: Run,
    full_bundle: Path,
    small_keras: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(full_bundle, out)

    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "write_manifest", fail)
    arguments = ["--model", small_keras, "--labels", "a,b", "--format", "tflite-fp32", "--out", out, "--quiet"]
    result = sonoedge("export", *arguments)
    assert result.code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert load_bundle(out).labels == ("benign", "malignant")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.slow
@pytest.mark.parametrize(("wrong", "off_by"), [("reference", 0.01), ("run_golden", 0.1)])
def test_a_file_that_computes_something_else_is_not_published(
    wrong: str,
    off_by: float,
    sonoedge: Run,
    small_keras: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its logits are not Keras' (``reference``), or not the same after loading as before (``run_golden``)."""
    right = getattr(pipeline, wrong)

    def deviating(*given: object) -> tuple[np.ndarray, np.ndarray]:
        logits, cams = right(*given)
        return logits + np.float32(off_by), cams

    monkeypatch.setattr(pipeline, wrong, deviating)
    arguments = ["--model", small_keras, "--labels", "a,b", "--format", "tflite-fp32", "--quiet"]
    result = sonoedge("export", *arguments, "--out", tmp_path / "bundle")
    assert result.code == 5
    assert "tflite-fp32 deviates from the Keras model" in result.err
    assert not list(tmp_path.iterdir())


def test_a_missing_interpreter_is_said_before_the_work(
    sonoedge: Run, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonoedge.edge_runtime.backends.is_available", lambda runtime: runtime != "openvino")
    arguments = ["--model", tiny_run, "--format", "openvino-fp32", "--out", tmp_path / "bundle"]
    result = sonoedge("export", *arguments)
    assert result.code == 7
    assert 'pip install ".[export]"' in result.err
