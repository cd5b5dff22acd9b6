"""Shared fixtures: phantoms, a small trained run, and bundles. Keras is imported only by those who ask for it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from edge_runtime import cli

# A slow machine must not fail a test, and a run must not differ from the last one by luck.
settings.register_profile("sonoedge", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sonoedge")

SIZE = 64
RUN_BACKBONES = ("mobilenetv2", "efficientnetb0")


@dataclass(frozen=True)
class Result:
    """What a command answered."""

    code: int
    out: str
    err: str


def call(*arguments: object) -> int:
    """``sonoedge ARGUMENTS`` in this process, which keeps its own SIGTERM handler."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return cli.main([str(argument) for argument in arguments])
    finally:
        signal.signal(signal.SIGTERM, handler)


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
    from train.phantoms import generate_phantoms

    return generate_phantoms(tmp_path_factory.mktemp("data") / "phantoms", cases_per_class=12)


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> Path:
    """``--weights DIR``: random backbones whose normalisation fits the phantoms.

    Straight from the initialiser their features would all but vanish, and so would everything worth comparing.
    """
    import keras

    from edge_runtime.image import find_images
    from train.backbones import BACKBONES
    from train.quiet import quiet

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


def model_inputs(paths: list[Path], size: int = SIZE) -> np.ndarray:
    """Model inputs float32 (N, size, size, 3)."""
    from edge_runtime.classifier import preprocess_file

    return np.concatenate([preprocess_file(path, (size, size)) for path in paths])


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, phantoms: Path, weights_dir: Path) -> Path:
    """A run folder: two fused backbones at 64 pixels, the paper's protocol."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert call("train", *train_arguments(phantoms, weights_dir), "--out", out) == 0
    return out


def train_arguments(phantoms: Path, weights_dir: Path) -> list[object]:
    """How `tiny_run` is trained."""
    return [
        "--data", phantoms, "--weights", weights_dir, "--backbones", ",".join(RUN_BACKBONES), "--quiet",
        "--input-size", SIZE, "--units", 16, "--protocol", "paper",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def run_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Path:
    """`tiny_run` as tflite-int8 and tflite-fp32."""
    out = tmp_path_factory.mktemp("bundles") / "run"
    arguments = ["--model", tiny_run, "--format", "tflite-fp32,tflite-int8", "--precision", "w8a8"]
    assert call("export", *arguments, "--num-calibration-samples", 8, "--out", out, "--no-gate", "--quiet") == 0
    return out


def small_model(
    head: Callable[[Any], Any] | None = None,
    *,
    grids: tuple[int, ...] = (2, 2),
    join: str = "gap",
    size: int = 32,
) -> Any:
    """An untrained classifier of a few thousand weights in the form that `export` reads.

    Args:
        head: from the joined vector (N, C) to the output; default Dense(8, relu), Dropout, logit, sigmoid.
        grids: stride of the last convolution of each branch, ``branch_0``, ``branch_1``, …; all equal: maps are
            concatenated as ``features``; else each is pooled first.
        join: ``gap`` or ``flatten``.
        size: pixels.
    """
    import keras
    from keras import layers

    image = keras.Input((size, size, 3), name="image")
    scaled = layers.Rescaling(1 / 127.5, -1.0)(image)
    maps = []
    for number, stride in enumerate(grids):
        stem = layers.Conv2D(6 + number, 3, strides=2, padding="same", activation="swish")(scaled)
        name = f"branch_{number}"
        maps.append(layers.Conv2D(5 + 2 * number, 3, stride, padding="same", activation="relu", name=name)(stem))
    if len(set(grids)) > 1:
        vector = layers.Concatenate(name="features")([layers.GlobalAveragePooling2D()(m) for m in maps])
    else:
        joined = layers.Concatenate(name="features")(maps) if len(maps) > 1 else maps[0]
        if len(maps) == 1:
            joined = layers.Identity(name="features")(joined)
        vector = (layers.GlobalAveragePooling2D() if join == "gap" else layers.Flatten())(joined)
    return keras.Model(image, (head or default_head)(vector), name="small")


def default_head(vector: Any) -> Any:
    """Dense(8, relu), dropout, ``logit``, ``probability``."""
    from keras import layers

    hidden = layers.Dropout(0.5)(layers.Dense(8, activation="relu", name="fc1")(vector))
    logit = layers.Dense(1, name="logit", bias_initializer="random_normal")(hidden)
    return layers.Activation("sigmoid", name="probability")(logit)


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
    """A copy of the tiny float bundle with a gate fitted to phantoms: an `edge_runtime.bundle.Bundle`."""
    import shutil

    from edge_runtime.classifier import Classifier
    from edge_runtime.image import find_images
    from edge_runtime.manifest import load_bundle
    from export.gate import FittedGate, distances, fit_gate, limits_from
    from export.gate_command import add_gate
    from export.gate_features import file_features, view_features

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
    return add_gate(bundle, FittedGate(gate, limits, {}))


@pytest.fixture
def tiny_backbones(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two backbones of a few hundred weights beside the real ones: ``tiny_a`` and ``tiny_b``, of one grid."""
    import keras

    from train.backbones import BACKBONES, Backbone

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
        row = Backbone(name, f"{name}.h5", scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3)
        monkeypatch.setitem(BACKBONES, name, row)
    return "tiny_a", "tiny_b"
