"""Shared fixtures: phantoms, a small trained run, and bundles. Keras is imported only by those who ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.commands import Result, call, train_arguments
from tests.helpers.models import RUN_BACKBONES, SIZE, model_inputs, small_model
from tests.tiers import (  # noqa: F401 - hooks of pytest
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_ignore_collect,
    pytest_sessionfinish,
)

# A slow machine must not fail a test, and a run must not differ from the last one by luck.
settings.register_profile("sonoedge", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sonoedge")


@pytest.fixture
def sonoedge(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs a command; an expected error is an exit code, any other exception fails the test."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = call(*arguments)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's own caches."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("caches")
        patch.setenv("XDG_CACHE_HOME", str(root))
        patch.setenv("KERAS_HOME", str(root / "keras"))
        yield root


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of 12 cases a class, two views each."""
    from sonoedge.train.simulation.phantoms import generate_phantoms

    return generate_phantoms(tmp_path_factory.mktemp("data") / "phantoms", cases_per_class=12)


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> Path:
    """``--weights DIR``: random backbones whose normalisation fits the phantoms.

    Straight from the initialiser their features would all but vanish, and so would everything worth comparing.
    """
    import keras

    from sonoedge.edge_runtime.imaging.image import find_images
    from sonoedge.train.models.backbones import BACKBONES
    from sonoedge.train.quiet import quiet

    folder = tmp_path_factory.mktemp("weights")
    images = model_inputs(find_images(phantoms / "benign")[:12] + find_images(phantoms / "malignant")[:12])
    for name in RUN_BACKBONES:
        with quiet():
            keras.utils.set_random_seed(1)
            application = getattr(keras.applications, BACKBONES[name].application)
            model = application(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), name=name)
            momentum = {}
            for layer in model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    momentum[layer], layer.momentum = layer.momentum, 0.0
            model(np.asarray(images, np.float32) * BACKBONES[name].scale + BACKBONES[name].offset, training=True)
            for layer, value in momentum.items():
                layer.momentum = value
            model.save_weights(folder / f"{name}_notop.weights.h5")
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, phantoms: Path, weights_dir: Path) -> Path:
    """A run folder: two fused backbones at 64 pixels, the paper's protocol."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert call("train", *train_arguments(phantoms, weights_dir), "--out", out) == 0
    return out


@pytest.fixture(scope="session")
def run_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Path:
    """`tiny_run` as tflite-int8 and tflite-fp32."""
    out = tmp_path_factory.mktemp("bundles") / "run"
    arguments = ["--model", tiny_run, "--format", "tflite-fp32,tflite-int8", "--precision", "w8a8"]
    assert call("export", *arguments, "--num-calibration-samples", 8, "--out", out, "--no-gate", "--quiet") == 0
    return out


@pytest.fixture(scope="session")
def small_keras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_model` with two branches of different grids, as a .keras file."""
    import keras

    keras.utils.set_random_seed(5)
    path = tmp_path_factory.mktemp("models") / "small.keras"
    model = small_model(grids=(2, 1), size=48)
    model.get_layer("logit").set_weights([10 * weight for weight in model.get_layer("logit").get_weights()])
    model.save(path)
    return path


@pytest.fixture(scope="session")
def full_bundle(tmp_path_factory: pytest.TempPathFactory, small_keras: Path, phantoms: Path) -> Path:
    """`small_keras` in every format."""
    out = tmp_path_factory.mktemp("bundles") / "full"
    arguments = ["--model", small_keras, "--labels", "benign,malignant", "--format", "all", "--precision", "w8a8"]
    arguments += ["--calibration-data", phantoms / "benign", "--num-calibration-samples", 8, "--out", out]
    # What the numbers are is tested with it, for phantoms that no gate of eight images would let through.
    assert call("export", *arguments, "--no-gate", "--quiet") == 0
    return out


@pytest.fixture(scope="session")
def float_bundle(tmp_path_factory: pytest.TempPathFactory, small_keras: Path) -> Path:
    """`small_keras` as tflite-fp32 and openvino-fp32: quick to make, nothing quantized."""
    out = tmp_path_factory.mktemp("bundles") / "float"
    arguments = ["--model", small_keras, "--labels", "benign,malignant", "--format", "tflite-fp32,openvino-fp32"]
    assert call("export", *arguments, "--out", out, "--quiet") == 0
    return out


@pytest.fixture
def gated(tmp_path: Path, float_bundle: Path, phantoms: Path) -> Any:
    """A copy of the tiny float bundle with a gate fitted to phantoms: an `edge_runtime.bundle.contract.Bundle`."""
    import shutil

    from sonoedge.edge_runtime.bundle.manifest import load_bundle
    from sonoedge.edge_runtime.imaging.image import find_images
    from sonoedge.edge_runtime.model.classifier import Classifier
    from sonoedge.export.bundle.gate import publish_gate
    from sonoedge.export.gate.features import file_features, view_features
    from sonoedge.export.gate.fit import FittedGate, distances, fit_gate, limits_from

    folder = tmp_path / "bundle"
    shutil.copytree(float_bundle, folder)
    bundle = load_bundle(folder)
    classifier = Classifier(bundle, "tflite-fp32")
    paths = find_images(phantoms)
    train, held_out = (
        (file_features(classifier, p), view_features(classifier, p)) for p in (paths[::2], paths[1::2])
    )
    gate = fit_gate(np.concatenate(train), bundle)
    limits = {"tflite-fp32": limits_from(*(distances(gate, features) for features in held_out))}
    return publish_gate(bundle, FittedGate(gate, limits, {}))


@pytest.fixture
def tiny_backbones(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two backbones of a few hundred weights beside the real ones: ``tiny_a`` and ``tiny_b``, of one grid."""
    import keras

    from sonoedge.train.models.backbones import BACKBONES, Backbone

    def application(width: int) -> Callable[..., keras.Model]:
        def build(*, include_top: bool, weights: str | None, input_shape: tuple, name: str) -> keras.Model:
            assert (include_top, weights) == (False, None)
            image = keras.Input(input_shape)
            x = keras.layers.Conv2D(width, 3, strides=2, name="first")(image)
            x = keras.layers.BatchNormalization(name="norm")(x)
            x = keras.layers.Conv2D(width, 3, strides=2, activation="relu", name="last")(x)
            return keras.Model(image, x, name=name)

        return build

    for name, width in (("tiny_a", 4), ("tiny_b", 6)):
        monkeypatch.setattr(keras.applications, name, application(width), raising=False)
        row = Backbone(name, f"{name}.h5", scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3, finer="norm")
        monkeypatch.setitem(BACKBONES, name, row)
    return "tiny_a", "tiny_b"
