"""`sonoedge.export` from Python: what is public, typed results, and commands that are thin layers over it."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path

import pytest

import sonoedge
import sonoedge.export
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import BundleError, ModelError, UsageError
from sonoedge.edge_runtime.imaging.image import find_images
from tests.helpers.commands import differences


@pytest.mark.parametrize(
    ("command", "function", "own"),
    [
        ("export", "export", ()),
        ("cascade", "make_cascade", ()),
        ("gate", "add_gate", ("check", "grey")),
    ],
)
def test_the_commands_are_thin_layers(command: str, function: str, own: tuple[str, ...]) -> None:
    assert differences(command, getattr(sonoedge.export, function), *own) == {}


@pytest.mark.tensorflow
def test_public_names() -> None:
    assert sonoedge.export.__all__ == sorted(sonoedge.export.__all__)
    for name in sonoedge.export.__all__:
        value = getattr(sonoedge.export, name)
        assert not inspect.ismodule(value), f"{name} is also a sub-package: which one is meant depends on the order"
        assert value.__doc__ and not value.__doc__.startswith(f"{name}("), name
        assert name in dir(sonoedge.export)
    with pytest.raises(AttributeError, match="no attribute 'exprot'"):
        _ = sonoedge.export.exprot


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_keras: Path) -> sonoedge.export.ExportedBundle:
    """`small_keras` as a bundle, by the function."""
    return sonoedge.export.export(
        small_keras,
        out=str(tmp_path_factory.mktemp("made") / "bundle"),
        formats=["tflite-fp32", "openvino-fp32"],
        labels=("benign", "malignant"),
        threshold=0.25,
        name="mine",
    )


def test_the_bundle_stands_for_its_path(made: sonoedge.export.ExportedBundle, phantoms: Path) -> None:
    bundle = load_bundle(made)
    assert Path(made) == made.path == bundle.path and made.name == bundle.name == "mine"
    assert (
        [a.name for a in made.artifacts] == [a.name for a in bundle.artifacts] == ["tflite-fp32", "openvino-fp32"]
    )
    for found, stored in zip(made.artifacts, bundle.artifacts, strict=True):
        assert (found.size_bytes, found.threshold, found.precision) == (stored.size_bytes, 0.25, "fp32")
        assert found.metrics == stored.metrics and found.promise is None
    assert (
        made.to_json()["artifacts"][0]["golden_logit_error"]
        == made.artifact("tflite-fp32").metrics["golden_logit_error"]
    )
    with pytest.raises(UsageError, match="no artifact 'tflite-int8'"):
        made.artifact("tflite-int8")
    image = find_images(phantoms)[0]
    with sonoedge.load(made) as model:
        assert model(image).artifact == "tflite-fp32"


@pytest.mark.slow
def test_it_says_what_it_does_to_the_log_and_prints_nothing(
    small_keras: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with caplog.at_level(logging.INFO, logger="sonoedge"):
        made = sonoedge.export.export(
            small_keras, out=tmp_path / "b", formats="tflite-int8", labels="benign,malignant", precision="guard",
            calibration_data=phantoms / "benign", num_calibration_samples=8, gate=False,
            recipe={"base": "w8a8", "rules": [], "ranges": ""},
        )  # fmt: skip
    assert capsys.readouterr() == ("", "")
    said = [record.getMessage() for record in caplog.records if record.name == "sonoedge"]
    assert any(line.startswith("[1/1] tflite-int8") for line in said)
    (artifact,) = made.artifacts
    assert artifact.promise is not None and not artifact.promise.kept
    assert artifact.promise.text.startswith("no accuracy promise")


def test_what_python_can_get_wrong(small_keras: Path, tmp_path: Path) -> None:
    """Argparse stops some of these before the command calls the function."""
    export, out = sonoedge.export.export, tmp_path / "bundle"
    wrong = [
        ({"precision": "int4"}, "--precision is one of guard, w8a8"),
        ({"formats": []}, "Unknown format"),
        ({"formats": ["tflite-int9"]}, "Unknown format 'tflite-int9'"),
        ({"labels": ["one"]}, "--labels NEGATIVE,POSITIVE"),
        ({"max_flips": 2}, "--max-flips is a share"),
        ({"recipe": {"bass": "w8a8"}, "formats": "tflite-int8"}, "A recipe"),
    ]
    for options, message in wrong:
        with pytest.raises(UsageError, match=message):
            export(small_keras, **{"out": out, "formats": "tflite-fp32", "labels": "a,b", **options})  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="No such run folder"):
        export(tmp_path / "nowhere", out=out)
    with pytest.raises(UsageError, match="--agreement is a share"):
        sonoedge.export.make_cascade("a", "b", data="c", out=out, agreement=0.5)
    with pytest.raises(BundleError, match="No such bundle folder"):
        sonoedge.export.add_gate(tmp_path / "nowhere")
    assert not out.exists()
