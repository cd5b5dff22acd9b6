"""A trained run (the teacher) -> a run whose VGG has a fraction of its multiply-adds and is not trained again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import keras
import numpy as np

from sonoedge.edge_runtime.device.peak_memory import reset_peak
from sonoedge.edge_runtime.errors import ModelError
from sonoedge.edge_runtime.files import sha256_bytes
from sonoedge.train.callbacks import RunFinished, tell
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.data.split import SUBSETS
from sonoedge.train.distillation.derived_run import DerivedRun, compared, write_derived_run
from sonoedge.train.distillation.low_rank import Maps, is_chain, multiply_adds, slim_chain
from sonoedge.train.distillation.objective import Distiller, map_cosine, start_head, teach
from sonoedge.train.distillation.targets import Targets, targets_of
from sonoedge.train.distillation.teacher import Teacher, open_teacher
from sonoedge.train.evaluation.results import summary
from sonoedge.train.evaluation.run_folder import load_subsets, open_run
from sonoedge.train.features.cache import compute_features, default_cache, load_input
from sonoedge.train.fitting.trainer import describe_split
from sonoedge.train.folders import atomic_directory
from sonoedge.train.models.backbones import weights_digest
from sonoedge.train.models.fusion import load_model
from sonoedge.train.records.reader import plain
from sonoedge.train.records.run_card import CARD, SlimCard
from sonoedge.train.records.settings import DistillFit, SlimSettings
from sonoedge.train.terminal import LOG

RIDGE = 0.1
"""How firmly the head's first layer is held to the teacher's when it is refitted, before it is taught."""


def slim(settings: SlimSettings, out: Path, *, cache: Path | None = None, progress: bool = True) -> SlimCard:
    """Write the run folder of the slim model (see `train.evaluation.run_folder`); returns the run card.

    The head is refitted in closed form to the outputs of the teacher's, then taught like a student's (see
    `train.distillation.objective.Distiller`) on the slim model's maps of training images. The rest is not trained.
    After an interruption, the same call goes on after the last finished step.

    Args:
        settings: what decides the slim model.
        out: the run folder.
        cache: folder of cached features; by default `train.features.cache.default_cache`.
        progress: show bars.

    Raises:
        DataError: the data are not those of the teacher's split.
        ModelError: the run cannot be read, or has no backbone that is a plain chain of convolutions.
    """
    reset_peak()
    run = open_run(settings.teacher)
    keras.config.set_dtype_policy("float32")
    cache = cache or default_cache()
    teacher, model = open_teacher(run), load_model(run.model_path)
    chains = [layer for layer in model.layers if isinstance(layer, keras.Model) and is_chain(layer)]
    if not chains:
        raise ModelError(f"{run.path} has no backbone that is a plain chain of convolutions, such as VGG.")
    with atomic_directory(out, marker=CARD) as folder:
        subsets = load_subsets(run, settings.data, progress=progress)
        describe_split(subsets, run.split)
        started = perf_counter()
        unfinished = cache.with_name("slimming") / f"{_digest(settings, model, subsets['train'])}.keras"
        if not unfinished.is_file():
            batch = _drawn(subsets["train"], settings, teacher.input_size)
            slims = {c.name: _slim(model, c, batch, settings.divisor, progress) for c in chains}
            _save(_with(model, slims), unfinished)
        # Read back, so that everything from here on is measured on the model as a file stores it.
        whole = load_model(unfinished)
        for chain in chains:
            before, after = multiply_adds(chain), multiply_adds(whole.get_layer(chain.name))
            ratio = f"{before / after:.2f} x fewer"
            LOG.info(f"{chain.name}: {before / 1e9:.2f} -> {after / 1e9:.2f} G multiply-adds, {ratio}")
        slim_s = perf_counter() - started
        branch = keras.Model(whole.inputs[0], whole.get_layer("features").output)

        def seen(samples: Sequence[Sample], copies: int) -> Maps:
            return compute_features({"maps": branch}, samples, copies=copies)["maps"]

        targets = targets_of(
            teacher, subsets, settings.augment, seen, branch.output_shape[1:3], cache=cache, progress=progress
        )
        features_s = perf_counter() - started - slim_s
        distiller = _distiller(teacher, targets["train"], settings.fit)
        described = [json.dumps(plain(settings)), weights_digest(whole)]
        backup = cache.with_name("distilling") / sha256_bytes("\n".join(described).encode())[:32]
        history = teach(
            distiller, targets["train"], targets["val"], seed=settings.seed, backup=backup, progress=progress
        )
        for layer in distiller.dense:
            whole.get_layer(layer.name).set_weights(layer.get_weights())
        answers = {s: distiller.predict(targets[s].x[: len(subsets[s])], verbose=0) for s in SUBSETS}
        of_run = {"weights": run.card.settings.weights, "backbones": run.card.settings.backbones}
        result = DerivedRun(
            whole,
            {**of_run, **plain(settings), "input_size": teacher.input_size[0]},
            {layer.name: weights_digest(layer) for layer in whole.layers if isinstance(layer, keras.Model)},
            logits={s: np.asarray(answers[s]["logit"], np.float64) for s in SUBSETS},
            teacher_logits={s: targets[s].logit[: len(subsets[s])] for s in SUBSETS},
            map_cosine={s: map_cosine(answers[s]["cam"], targets[s].cam) for s in ("val", "test")},
            history=history,
            seconds={"features": slim_s + features_s, "fit": perf_counter() - started - slim_s - features_s},
        )
        card = write_derived_run(folder, run, subsets, result, SlimCard)
    unfinished.unlink(missing_ok=True)
    LOG.info(summary(card, out))
    LOG.info(compared(card))
    tell(RunFinished(out, card))
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
    """A model with some of its nested models replaced by name; it shares all its other layers."""
    return keras.models.clone_model(model, clone_function=lambda layer: replaced.get(layer.name, layer))


def _digest(settings: SlimSettings, model: keras.Model, data: Dataset) -> str:
    """Digest of everything that decides the slim layers; an interrupted run finds them again by it."""
    parts = [json.dumps([settings.divisor, settings.images, settings.seed, data.digest]), weights_digest(model)]
    return sha256_bytes("\n".join(parts).encode())[:32]


def _save(model: keras.Model, path: Path) -> None:
    """Save a model so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        model.save(whole)
        whole.replace(path)


def _distiller(teacher: Teacher, targets: Targets, fit: DistillFit) -> Distiller:
    """A distiller of the head alone, on fixed maps; the head starts near the teacher's."""
    maps = keras.Input(targets.x.shape[1:])
    as_they_are = keras.Model(maps, keras.layers.Identity()(maps))
    head = start_head(as_they_are, teacher, targets, RIDGE, near=teacher.dense[0][0])
    return Distiller(as_they_are, head, targets, fit)
