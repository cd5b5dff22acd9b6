"""Small models and data for the int8 tests: two branches, of which a chosen one breaks under 8-bit activations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sonoedge.edge_runtime.backends import open_model
from sonoedge.edge_runtime.files import sha256_file, write_bytes_atomic
from sonoedge.edge_runtime.model.classifier import preprocess_file
from sonoedge.edge_runtime.proportion import GroupedCount
from sonoedge.export.convert.graphs import pack_tflite, parse_tflite
from sonoedge.export.convert.splitting import split_model
from sonoedge.export.formats import Source
from sonoedge.export.guard.candidate_table import Candidate
from sonoedge.export.guard.comparison import Budget, Comparison
from sonoedge.export.guard.evaluator import Evaluator
from sonoedge.export.guard.int8 import Int8Policy, write_int8
from sonoedge.export.quantize.calibration import CalibrationSet
from sonoedge.export.quantize.calibration_audit import ImageAudit
from sonoedge.export.quantize.quantizers import TFLiteQuantizer
from sonoedge.export.quantize.recipes import Recipe
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.evaluation.intervals import Interval

SIZE = 24
OUTLIER = 4000.0


def two_branches(fragile: int | None, seed: int = 3, wide: int = 128) -> Any:
    """Branches ``left`` and ``right``; number ``fragile`` has a layer ``hub`` with one channel of huge values.

    The next layer scales it back, so that in float nothing happens; with one 8-bit scale for the whole tensor all
    other channels vanish. The sound branch has 92 % of the multiply-adds then, as VGG19 has most of them in the
    fused model.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    scaled = layers.Rescaling(1 / 127.5, -1.0)(image)
    maps = []
    for number, name in enumerate(("left", "right")):
        hub = "hub" if number == fragile else f"{name}_middle"
        x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name=f"{name}_stem")(scaled)
        width = 8 if fragile in {None, number} else wide
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=hub)(x)
        maps.append(layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name=name)(x))
    vector = layers.GlobalAveragePooling2D()(layers.Concatenate(name="features")(maps))
    logit = layers.Dense(1, name="logit")(vector)
    model = keras.Model(image, layers.Activation("sigmoid", name="probability")(logit))
    if fragile is not None:
        after = ("left", "right")[fragile]
        kernel, bias = model.get_layer("hub").get_weights()
        kernel[..., 0] *= OUTLIER
        model.get_layer("hub").set_weights([kernel, bias])
        kernel, bias = model.get_layer(after).get_weights()
        kernel[:, :, 0] /= OUTLIER
        model.get_layer(after).set_weights([kernel, bias])
    # Logits around zero and well apart.
    kernel, bias = model.get_layer("logit").get_weights()
    model.get_layer("logit").set_weights([40 * kernel, bias])
    return model


def depthwise(seed: int = 7) -> Any:
    """A branch whose weights must be rounded well: nine make a value, cancel out, and see inputs far from zero.

    One pointwise convolution has no bias of its own.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0)(image)
    far = keras.initializers.Constant(2.0)
    x = layers.Conv2D(8, 3, 2, "same", activation="relu", bias_initializer=far, name="stem")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="deep")(x)
    wide = layers.Conv2D(12, 1, activation="relu", name="wide")(x)
    again = layers.Conv2D(12, 1, use_bias=False, name="again")(x)
    x = layers.Identity(name="features")(layers.ReLU(name="maps")(layers.Add()([wide, again])))
    logit = layers.Dense(1, name="logit")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, layers.Activation("sigmoid", name="probability")(logit))
    kernel, bias = model.get_layer("deep").get_weights()
    kernel = np.random.default_rng(0).normal(size=kernel.shape).astype(np.float32)
    model.get_layer("deep").set_weights([4 * (kernel - kernel.mean(axis=(0, 1), keepdims=True)), bias])
    kernel, bias = model.get_layer("logit").get_weights()
    model.get_layer("logit").set_weights([40 * kernel, bias])
    return model


def noise_images(folder: Path, count: int, seed: int) -> tuple[Path, ...]:
    """Smooth random pictures as PNG files."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        path = folder / f"{i:03}.png"
        Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return tuple(paths)


def calibration_set(paths: tuple[Path, ...]) -> CalibrationSet:
    """Without the audit, which has tests of its own."""
    audit = ImageAudit(len(paths), {}, 0, 0, None, ())
    return CalibrationSet(paths, "test", tuple(sha256_file(path) for path in paths), audit)


@dataclass(frozen=True)
class Bench:
    """A model on its way to files, with its evaluator."""

    source: Source
    evaluator: Evaluator
    folder: Path


def bench(folder: Path, model: Any, runtime: str = "tflite", *, images: int = 60, calibrated: int = 12) -> Bench:
    """Validation labels are the float decisions, some of them wrong; the threshold lies at the median logit."""
    import keras

    folder.mkdir(parents=True, exist_ok=True)
    split = split_model(model)
    calibration = calibration_set(noise_images(folder / "calibration", calibrated, 1))
    source = Source(split, calibration, folder, folder / "cache", progress=False)
    suffix = {"tflite": ".tflite", "openvino": ".xml"}[runtime]
    source.write_head(runtime, folder / f"head{suffix}")
    exact = folder / f"float{suffix}"
    source.write_float(runtime, exact)
    paths = noise_images(folder / "validation", images, 2)
    inputs = np.stack([np.asarray(Image.open(path), np.float32) for path in paths])
    probability = keras.ops.convert_to_numpy(model(inputs))[:, 0]
    threshold = float(np.median(probability))
    samples = tuple(
        Sample(path, path.name, int(p >= threshold) ^ int(i % 7 == 0), path.name, sha256_file(path), None)
        for i, (path, p) in enumerate(zip(paths, probability, strict=True))
    )
    dataset = Dataset({"": folder / "validation"}, ("benign", "malignant"), samples)
    evaluator = Evaluator(
        dataset, (SIZE, SIZE), runtime, folder / f"head{suffix}", exact, threshold, cache=folder / "cache"
    )
    return Bench(source, evaluator, folder)


def outputs(path: Path, runtime: str, place: Bench) -> list[dict[str, np.ndarray]]:
    runner = open_model(path, runtime, threads=1)
    images = [preprocess_file(sample.path, (SIZE, SIZE)) for sample in place.evaluator.dataset.samples]
    return [{name: value.copy() for name, value in runner.run({"image": image}).items()} for image in images]


LOOSE = Budget(0.04, 0.04)
"""The small model's logits crowd around the threshold; its fragile branch flips 13 %."""


def comparison(flipped: int, error: float, accuracy: float = 0.0, auc: float = 0.0) -> Comparison:
    flips = GroupedCount.of(np.arange(100) < flipped, None)
    return Comparison(np.zeros(100), 0.5, flips, Interval(accuracy, -1, 1), Interval(auc, -1, 1), error)


def candidate(name: str, p50_ms: float, found: Comparison | None, error: str = "") -> Candidate:
    return Candidate(name, Recipe(), Path(name), 1, found, error, p50_ms)


SURE = Interval(0.0, -0.001, 0.001)


def counted(flipped: int, images: int, copies: int = 1) -> GroupedCount:
    return GroupedCount.of(np.arange(images) < flipped, [f"g{i // copies:05d}" for i in range(images)])


def int8(place: Bench, policy: Int8Policy, out: Path) -> object:
    out.mkdir()
    (out / "scratch").mkdir()
    return write_int8(
        place.source, "tflite", out / "backbone.tflite", place.folder / "head.tflite", policy,
        place.evaluator.threshold, out / "scratch", progress=False,
    )  # fmt: skip


class Lacking(TFLiteQuantizer):
    """Candidates with an operator that no interpreter has: all of them, or only the plain one."""

    everything = False

    def build(self, path: Path, recipe: Recipe, branch: str | None = None) -> None:
        super().build(path, recipe, branch)
        if branch is None and (self.everything or recipe.precision == "w8a8"):
            model = parse_tflite(path.read_bytes())
            code = model.operatorCodes[model.subgraphs[0].operators[-1].opcodeIndex]
            code.builtinCode = code.deprecatedBuiltinCode = 32  # CUSTOM
            code.customCode = "FancySwish"
            write_bytes_atomic(path, pack_tflite(model))


def lacking(place: Bench) -> Lacking:
    return Lacking(place.source.tflite_float, place.source.activations)
