"""``sonoedge slim``: a VGG of a run with a fraction of its multiply-adds, without training it anew.

A 3 x 3 convolution of C outputs becomes one of r < C outputs and a 1 x 1 convolution back to C. The r directions
are those in which the layer's outputs vary most over training images (principal components; Zhang et al., TPAMI
2016, without their non-linear refinement): the best a linear bottleneck can do, in closed form. Every layer keeps
the same share of its multiply-adds, so that one that happens to be easy, such as an identity, brings no gain.

The head's first layer is then moved, as little as needed, so that it sees again what the teacher's sees (ridge
regression towards the teacher's weights); its strength is chosen on validation images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import ModelError, UsageError
from edge_runtime.files import atomic_directory
from train.backbones import weights_digest
from train.data import load_dataset
from train.distilling import map_cosine
from train.features import compute_features, default_cache, extract_features, load_input
from train.fit import History
from train.model import load_model
from train.results import summary
from train.run_folder import CARD, open_run
from train.split import SUBSETS, apply_split
from train.taught import Taught, compared, write_taught
from train.teacher import Teacher, open_teacher

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_CHAIN = (keras.layers.InputLayer, keras.layers.Conv2D, keras.layers.MaxPooling2D)
_BATCH = 4

Covariances = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def rank_of(inputs: int, outputs: int, speedup: float) -> int:
    """Width of the bottleneck of a 3 x 3 convolution that leaves 1 / speedup of its multiply-adds."""
    return max(1, int(9 * inputs * outputs / (speedup * (9 * inputs + outputs))))


def slim_backbone(backbone: keras.Model, images: NDArray[np.float32], speedup: float) -> keras.Model:
    """A chain of convolutions with every 3 x 3 one factored, except the first.

    Args:
        backbone: input convolutions and pooling only, as in VGG.
        images: float32 (N, H, W, 3), as the backbone sees them.
    """
    x = keras.Input(backbone.input_shape[1:])
    output = x
    chosen = _factored(backbone)
    directions = _directions(backbone, chosen, images)
    for layer in backbone.layers[1:]:
        if layer not in chosen:
            output = layer(output)
            continue
        kernel, bias = layer.get_weights()
        mean, vectors = directions[layer.name]
        basis = vectors[:, : rank_of(kernel.shape[2], kernel.shape[3], speedup)]
        narrow = keras.layers.Conv2D(
            basis.shape[1], 3, padding=layer.padding, use_bias=False, name=f"{layer.name}_narrow"
        )
        wide = keras.layers.Conv2D(kernel.shape[3], 1, activation=layer.activation, name=layer.name)
        output = wide(narrow(output))
        narrow.set_weights([kernel @ basis])
        # The part outside the directions stays at its mean.
        wide.set_weights([basis.T[None, None], mean - basis @ (basis.T @ (mean - bias))])
    return keras.Model(x, output, name=backbone.name)


def _factored(backbone: keras.Model) -> list[keras.layers.Conv2D]:
    convolutions = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    return [layer for layer in convolutions[1:] if layer.kernel_size == (3, 3) and layer.strides == (1, 1)]


def _directions(
    backbone: keras.Model, chosen: Sequence[keras.layers.Conv2D], images: NDArray[np.float32]
) -> Covariances:
    """By layer, mean (C,) and principal directions (C, C), strongest first, of the outputs before activation."""
    outputs = {}
    for layer in chosen:
        plain = keras.layers.Conv2D(layer.filters, 3, padding=layer.padding, name=f"{layer.name}_plain")
        outputs[layer.name] = plain(layer.input)
        plain.set_weights(layer.get_weights())
    model = keras.Model(backbone.inputs[0], outputs)
    sums: dict[str, list[Any]] = {name: [0, 0.0, 0.0] for name in outputs}
    for start in tqdm(range(0, len(images), _BATCH), desc="directions", leave=False):
        for name, value in model.predict_on_batch(images[start : start + _BATCH]).items():
            rows = np.asarray(value).reshape(-1, value.shape[-1])
            sums[name][0] += len(rows)
            sums[name][1] = sums[name][1] + rows.sum(axis=0, dtype=np.float64)
            sums[name][2] = sums[name][2] + (rows.T @ rows).astype(np.float64)
    found = {}
    for name, (count, total, squares) in sums.items():
        mean = total / count
        found[name] = (mean, np.linalg.eigh(squares / count - np.outer(mean, mean))[1][:, ::-1])
    return found


def slim(
    run_path: Path, data: str, speedup: float, out: Path, *, images: int, seed: int, cache: Path, progress: bool
) -> dict[str, Any]:
    """Write the run folder of the slim model; returns the run card.

    Raises:
        ModelError: the run has no backbone that is a plain chain of convolutions.
    """
    run = open_run(run_path)
    teacher = open_teacher(run)
    model = load_model(run.model_path)
    chains = [layer for layer in model.layers if isinstance(layer, keras.Model) and _is_chain(layer)]
    if not chains:
        raise ModelError(f"{run.path} has no backbone that is a plain chain of convolutions, such as VGG.")
    with atomic_directory(out, marker=CARD) as folder:
        dataset = load_dataset(data, classes=run.split.labels, progress=progress)
        subsets = apply_split(dataset, run.split)
        started = perf_counter()
        drawn = np.random.default_rng(seed).permutation(len(subsets["train"]))[:images]
        batch = np.stack([load_input(subsets["train"].samples[i], 0, teacher.input_size) for i in drawn])
        slims = {}
        for chain in chains:
            before = keras.Model(model.inputs[0], _input_of(model, chain))
            slims[chain.name] = slim_backbone(chain, np.asarray(before.predict(batch, verbose=0)), speedup)
        whole = keras.models.clone_model(model, clone_function=lambda layer: slims.get(layer.name, layer))
        directions_s = perf_counter() - started
        samples = [sample for subset in SUBSETS for sample in subsets[subset].samples]
        maps = compute_features({"maps": keras.Model(whole.inputs[0], whole.get_layer("features").output)}, samples)
        hidden = extract_features({"hidden": teacher.hidden}, samples, cache=cache, progress=progress)
        parts = np.cumsum([len(subsets[subset]) for subset in SUBSETS])[:-1]
        seen = dict(zip(SUBSETS, np.split(maps["maps"], parts), strict=True))
        wanted = dict(zip(SUBSETS, np.split(hidden["hidden"], parts), strict=True))
        taught, history = _refit(teacher, seen, wanted)
        kernel, bias = taught.dense[0]
        first = next(layer for layer in whole.layers if isinstance(layer, keras.layers.Dense))
        first.set_weights([kernel, bias])
        own = {subset: seen[subset] @ kernel for subset in SUBSETS}
        card = write_taught(folder, run, dataset, subsets, Taught(
            whole,
            {
                "teacher": str(run_path), "data": data, "speedup": speedup, "images": images, "seed": seed,
                "weights": run.card["settings"]["weights"], "backbones": run.card["settings"]["backbones"],
                "input_size": teacher.input_size[0],
            },
            {layer.name: weights_digest(layer) for layer in whole.layers if isinstance(layer, keras.Model)},
            logits={subset: taught.logits(own[subset]) for subset in SUBSETS},
            teacher_logits={subset: teacher.logits(wanted[subset]) for subset in SUBSETS},
            map_cosine={s: map_cosine(taught.cams(own[s]), teacher.cams(wanted[s])) for s in ("val", "test")},
            history=history,
            seconds={"features": perf_counter() - started - directions_s, "fit": directions_s},
        ))  # fmt: skip
    return card


def _refit(
    teacher: Teacher, maps: dict[str, NDArray[np.float32]], hidden: dict[str, NDArray[np.float32]]
) -> tuple[Teacher, History]:
    """The head with its first layer moved, and the squared error of the logit by strength of the regression."""
    kernel, bias = teacher.dense[0]
    x, target = (part["train"].mean(axis=(1, 2), dtype=np.float64) for part in (maps, hidden))
    mean, wanted = x.mean(axis=0), target.mean(axis=0)
    centred = x - mean
    rest = target - wanted - centred @ kernel
    # As many equations as images: fewer than channels.
    gram = centred @ centred.T
    scale = np.trace(gram) / len(gram)
    best: tuple[float, Teacher] | None = None
    history: History = {"loss": [], "val_loss": []}
    for ridge in RIDGES:
        moved = kernel + centred.T @ np.linalg.solve(gram + ridge * scale * np.eye(len(gram)), rest)
        dense = (moved.astype(np.float32), (bias + wanted - mean @ moved).astype(np.float32))
        candidate = replace(teacher, dense=(dense, *teacher.dense[1:]))
        errors = {
            s: float(np.mean((candidate.logits(maps[s] @ dense[0]) - teacher.logits(hidden[s])) ** 2))
            for s in ("train", "val")
        }
        history["loss"].append(errors["train"])
        history["val_loss"].append(errors["val"])
        if best is None or errors["val"] < best[0]:
            best = (errors["val"], candidate)
    assert best is not None
    return best[1], history


def _is_chain(model: keras.Model) -> bool:
    return all(isinstance(layer, _CHAIN) for layer in model.layers) and bool(_factored(model))


def _input_of(model: keras.Model, backbone: keras.Model) -> Any:
    """The symbolic tensor that a nested model was called on."""
    return model.get_layer(backbone.name)._inbound_nodes[-1].input_tensors[0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--teacher", required=True, type=Path, metavar="RUN", help="finished run with a VGG")
    parser.add_argument("--data", required=True, metavar="DIR", help="the images that it was trained on")
    parser.add_argument("--speedup", type=float, default=4.0, metavar="X", help=(
        "multiply-adds of the VGG's 3 x 3 layers are divided by this (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument(
        "--images", type=int, default=64, help="training images to find directions on (default: 64)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw of these images")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN2", help="run folder of the slim model")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="default: ~/.cache/sonoedge/features")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the run card as one JSON object")
    parser.epilog = (
        "example:\n"
        "  sonoedge slim --teacher runs/busi --data BUSI --speedup 8 --out runs/slim8\n"
        "  sonoedge export --model runs/slim8 --format tflite-int8,tflite-fp32 --out bundle-slim8"
    )


def run(args: argparse.Namespace) -> int:
    """Make and write the run folder."""
    if (args.out / CARD).exists() and not args.overwrite:
        raise UsageError(f"{args.out} holds a finished run. Choose another --out, or --overwrite.")
    for name, value, low, high in (("--speedup", args.speedup, 1.0, 64.0), ("--images", args.images, 1, 10_000)):
        if not low <= value <= high:
            raise UsageError(f"{name} must be from {low:g} to {high:g}. Received: {value:g}.")
    card = slim(
        args.teacher,
        args.data,
        args.speedup,
        args.out,
        images=args.images,
        seed=args.seed,
        cache=args.cache or default_cache(),
        progress=not args.quiet,
    )
    if args.json:
        print(json.dumps(card))
    else:
        print(summary(card, args.out))
        print(compared(card))
    return 0
