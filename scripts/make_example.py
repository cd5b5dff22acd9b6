"""Make the folder ``example``: a tiny bundle that is trained on simulated images only, and one such image.

    python scripts/make_example.py

It is for trying the commands within a minute of the set-up. The model has seen no patient, and says nothing about
one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sonoedge.edge_runtime import cli
from sonoedge.edge_runtime.imaging.image import find_images, read_image, to_input
from sonoedge.train.simulation.phantoms import LABELS, generate_phantoms

ROOT = Path(__file__).resolve().parents[1]
SIZE = 128
"""Pixels of the input."""
CHANNELS = (16, 24, 48, 64)


def main(argv: list[str] | None = None) -> int:
    """Make the folder; exit code 0, or that of the export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "example", help="default: example, in the checkout")
    parser.add_argument("--cases", type=int, default=500, help="simulated cases a class (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=16, help="default: %(default)s")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        seen = generate_phantoms(work / "seen", cases_per_class=args.cases, seed=1, progress=True)
        unseen = generate_phantoms(work / "unseen", cases_per_class=60, seed=2, progress=True)
        model = _trained(*_loaded(seen), args.epochs)
        inputs, truth = _loaded(unseen)
        right = (model.predict(inputs, verbose=0)[:, 0] >= 0.5) == truth
        print(f"{model.count_params()} weights; {right.mean():.3f} of {len(right)} unseen simulated images right")
        model.save(work / "simulated.keras")
        arguments = ["--model", work / "simulated.keras", "--labels", ",".join(LABELS), "--format", "tflite-fp32"]
        arguments += ["--calibration-data", seen, "--name", "simulated", "--out", args.out / "bundle"]
        if code := cli.main(["export", *map(str, arguments)]):
            return code
        image = next(path for path in find_images(unseen / LABELS[-1]))
        shutil.copyfile(image, args.out / "phantom.png")
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{args.out}: {size / 1e6:.2f} MB")
    return 0


def _loaded(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Inputs float32 (N, 128, 128, 3), 0–255, and whether each is of the positive class, bool (N,)."""
    paths = [path for label in LABELS for path in find_images(folder / label)]
    inputs = np.concatenate([to_input(read_image(path), (SIZE, SIZE)) for path in paths])
    return inputs, np.array([path.parent.name == LABELS[-1] for path in paths])


def _trained(inputs: np.ndarray, truth: np.ndarray, epochs: int) -> Any:
    """A network of four separable convolutions, in the form that `export` reads."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    maps = layers.Rescaling(1 / 127.5, -1.0)(image)
    maps = layers.Conv2D(CHANNELS[0], 3, strides=2, padding="same", activation="relu")(maps)
    for number, channels in enumerate(CHANNELS[1:]):
        maps = layers.SeparableConv2D(channels, 3, padding="same", use_bias=False)(maps)
        maps = layers.BatchNormalization()(maps)
        maps = layers.ReLU()(maps)
        if number < 2:
            maps = layers.MaxPooling2D()(maps)
    maps = layers.Identity(name="features")(maps)
    hidden = layers.Dense(32, activation="relu", name="fc1")(layers.GlobalAveragePooling2D()(maps))
    logit = layers.Dense(1, name="logit")(layers.Dropout(0.3)(hidden))
    model = keras.Model(image, layers.Activation("sigmoid", name="probability")(logit), name="simulated")
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * (len(inputs) // 32 + 1))
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
    mirrored = np.concatenate([inputs, inputs[:, :, ::-1]])
    model.fit(mirrored, np.tile(truth, 2).astype(np.float32), epochs=epochs, batch_size=32, verbose=2)
    return model


if __name__ == "__main__":
    raise SystemExit(main())
