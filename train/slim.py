"""A trained run (the teacher) -> a run whose VGG has a fraction of its multiply-adds, without training it anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import keras
import numpy as np

from edge_runtime.errors import ModelError
from edge_runtime.files import atomic_directory
from train.backbones import weights_digest
from train.data import Dataset, load_dataset
from train.distilling import map_cosine
from train.features import compute_features, default_cache, extract_features, load_input
from train.fit import History
from train.least_squares import fit_dense
from train.low_rank import Maps, is_chain, multiply_adds, slim_chain
from train.model import load_model
from train.quiet import silent
from train.results import summary
from train.run_folder import CARD, open_run
from train.split import SUBSETS, apply_split
from train.taught import Taught, compared, write_taught
from train.teacher import Teacher, open_teacher
from train.training import describe_split

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""How strongly the head is held to the teacher's, from loose to firm; validation decides."""


@dataclass(frozen=True)
class SlimSettings:
    """Everything that decides a slim model; see ``sonoedge slim --help`` for what the fields mean."""

    teacher: str
    data: str
    divisor: float = 6.0
    images: int = 64
    seed: int = 0


def slim(
    settings: SlimSettings, out: Path, *, cache: Path | None = None, progress: bool = True, verbose: bool = True
) -> dict[str, Any]:
    """Write the run folder of the slim model (see `train.run_folder`); returns the run card.

    The head's first layer is moved, as little as needed, so that it sees again what the teacher's sees: ridge
    regression towards the teacher's weights, on training images; its strength is chosen on validation images.

    Raises:
        DataError: the data are not those of the teacher's split.
        ModelError: the run cannot be read, or has no backbone that is a plain chain of convolutions.
    """
    say = print if verbose else silent
    run = open_run(settings.teacher)
    keras.config.set_dtype_policy("float32")
    teacher, model = open_teacher(run), load_model(run.model_path)
    chains = [layer for layer in model.layers if isinstance(layer, keras.Model) and is_chain(layer)]
    if not chains:
        raise ModelError(f"{run.path} has no backbone that is a plain chain of convolutions, such as VGG.")
    with atomic_directory(out, marker=CARD) as folder:
        dataset = load_dataset(settings.data, classes=run.split.labels, progress=progress)
        subsets = apply_split(dataset, run.split)
        for line in describe_split(subsets, run.split):
            say(line)
        started = perf_counter()
        batch = _drawn(subsets["train"], settings, teacher.input_size)
        slims = {chain.name: _slim(model, chain, batch, settings.divisor, progress) for chain in chains}
        for chain in chains:
            before, after = multiply_adds(chain), multiply_adds(slims[chain.name])
            ratio = f"{before / after:.2f} x fewer"
            say(f"{chain.name}: {before / 1e9:.2f} -> {after / 1e9:.2f} G multiply-adds, {ratio}")
        whole = _with(model, slims)
        slim_s = perf_counter() - started
        maps, hidden = _seen(whole, teacher, subsets, cache or default_cache(), progress)
        taught, history = _refit(teacher, maps, hidden)
        next(layer for layer in whole.layers if isinstance(layer, keras.layers.Dense)).set_weights(taught.dense[0])
        own = {subset: maps[subset] @ taught.dense[0][0] for subset in SUBSETS}
        of_run = {name: run.card["settings"].get(name) for name in ("weights", "backbones")}
        result = Taught(
            whole,
            {**of_run, **asdict(settings), "input_size": teacher.input_size[0]},
            {layer.name: weights_digest(layer) for layer in whole.layers if isinstance(layer, keras.Model)},
            logits={subset: taught.logits(own[subset]) for subset in SUBSETS},
            teacher_logits={subset: teacher.logits(hidden[subset]) for subset in SUBSETS},
            map_cosine={s: map_cosine(taught.cams(own[s]), teacher.cams(hidden[s])) for s in ("val", "test")},
            history=history,
            seconds={"fit": slim_s, "features": perf_counter() - started - slim_s},
        )
        card = write_taught(folder, run, dataset, subsets, result)
    say(summary(card, out))
    say(compared(card))
    return card


def _drawn(train: Dataset, settings: SlimSettings, size: tuple[int, int]) -> Maps:
    """Some training images as model input, float32 (N, H, W, 3)."""
    drawn = np.random.default_rng(settings.seed).permutation(len(train))[: settings.images]
    return np.stack([load_input(train.samples[i], 0, size) for i in drawn])


def _slim(model: keras.Model, chain: keras.Model, images: Maps, divisor: float, progress: bool) -> keras.Model:
    """The slim version of a chain within a model, whose own layers may lie before it (its preprocessing)."""
    (given,) = model.get_layer(chain.name)._inbound_nodes[-1].input_tensors
    as_seen = np.asarray(keras.Model(model.inputs[0], given).predict(images, verbose=0))
    return slim_chain(chain, as_seen, divisor, progress=progress)


def _with(model: keras.Model, replaced: Mapping[str, keras.Model]) -> keras.Model:
    """A copy of a model, some of its nested models replaced by name."""

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        return replaced.get(layer.name) or type(layer).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=copied)
    for layer in copy.layers:
        if layer.name not in replaced:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return copy


def _seen(
    whole: keras.Model, teacher: Teacher, subsets: Mapping[str, Dataset], cache: Path, progress: bool
) -> tuple[dict[str, Maps], dict[str, Maps]]:
    """By subset, the slim model's maps (N, h, w, C) and the teacher's hidden maps (N, h, w, U)."""
    branch = {"maps": keras.Model(whole.inputs[0], whole.get_layer("features").output)}
    maps, hidden = {}, {}
    for subset, data in subsets.items():
        hidden[subset] = extract_features({"hidden": teacher.hidden}, data.samples, cache=cache, progress=progress)[
            "hidden"
        ]
        maps[subset] = compute_features(branch, data.samples)["maps"]
    return maps, hidden


def _refit(teacher: Teacher, maps: Mapping[str, Maps], hidden: Mapping[str, Maps]) -> tuple[Teacher, History]:
    """The head with its first layer moved, and the squared error of the logit by strength of the regression."""
    kernel, bias = teacher.dense[0]
    x, target = (part["train"].mean(axis=(1, 2), dtype=np.float64) for part in (maps, hidden))
    history: History = {"loss": [], "val_loss": []}
    candidates = []
    for strength in RIDGES:
        dense = fit_dense(x, target + bias, kernel.astype(np.float64), strength)
        candidate = replace(teacher, dense=(dense, *teacher.dense[1:]))
        for subset, errors in (("train", history["loss"]), ("val", history["val_loss"])):
            error = candidate.logits(maps[subset] @ dense[0]) - teacher.logits(hidden[subset])
            errors.append(float(np.mean(error**2)))
        candidates.append(candidate)
    return candidates[int(np.argmin(history["val_loss"]))], history
