"""Distillation: a finished run (the teacher) -> a run of a compact student with the same head, split and labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import keras
import numpy as np

from sonoedge.edge_runtime.device.peak_memory import reset_peak
from sonoedge.edge_runtime.files import sha256_bytes
from sonoedge.train.callbacks import RunFinished, tell
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.data.split import SUBSETS
from sonoedge.train.distillation.derived_run import DerivedRun, compared, write_derived_run
from sonoedge.train.distillation.objective import (
    Distiller,
    map_cosine,
    start_head,
    teach,
    thin_directions,
)
from sonoedge.train.distillation.targets import targets_of
from sonoedge.train.distillation.teacher import Maps, Teacher, open_teacher
from sonoedge.train.evaluation.results import summary
from sonoedge.train.evaluation.run_folder import load_subsets, open_run
from sonoedge.train.features.cache import default_cache, extract_features
from sonoedge.train.fitting.trainer import describe_split
from sonoedge.train.folders import atomic_directory
from sonoedge.train.models.backbones import weights_digest
from sonoedge.train.models.students import build_student, student, with_head
from sonoedge.train.records.reader import plain
from sonoedge.train.records.run_card import CARD, DistilledCard
from sonoedge.train.records.settings import DistillSettings
from sonoedge.train.terminal import LOG

RIDGE = 1.0
"""Strength of the ridge regression that starts the head, as a share of the mean variance of a channel."""

THIN = 64
"""Directions that the student's first dense layer keeps: a quarter of its bytes, the same answers."""


def distill(
    settings: DistillSettings, out: Path, *, cache: Path | None = None, progress: bool = True
) -> DistilledCard:
    """Teach a student and write its run folder (see `train.evaluation.run_folder`); returns the run card.

    The student learns from the training images only, as they are and in augmented copies. After an interruption,
    the same call goes on after the last finished epoch.

    Args:
        settings: what decides the distillation.
        out: the run folder.
        cache: folder of cached features; by default `train.features.cache.default_cache`.
        progress: show bars.

    Raises:
        DataError: the data are not those of the teacher's split.
        MissingExtraError, ModelError: the student's weights cannot be had, or the teacher cannot be read.
        UsageError: an unknown student, or ``out`` holds something else.
    """
    reset_peak()
    row = student(settings.student)
    run = open_run(settings.teacher)
    keras.config.set_dtype_policy("float32")
    cache = cache or default_cache()
    with atomic_directory(out, marker=CARD) as folder:
        subsets = load_subsets(run, settings.data, progress=progress)
        describe_split(subsets, run.split)
        teacher = open_teacher(run)
        keras.utils.set_random_seed(settings.seed)
        size = settings.input_size or row.input_size
        model = build_student(row, weights=settings.weights, input_size=(size, size))
        upper = model.upper
        pretrained = settings.weights != "none"
        if not pretrained:
            LOG.info("note: an untrained student (--weights none): all of it is trained, on these images alone.")
        started = perf_counter()

        def seen(samples: Sequence[Sample], copies: int) -> Maps:
            part = {"lower": model.lower}
            return extract_features(part, samples, cache=cache, copies=copies, progress=progress)["lower"]

        targets = targets_of(
            teacher, subsets, settings.augment, seen, upper.output_shape[1:3], cache=cache, progress=progress
        )
        features_s = perf_counter() - started
        head = start_head(upper, teacher, targets["train"], RIDGE)
        distiller = Distiller(upper, head, targets["train"], settings.fit)
        # As is usual for small sets, pretrained normalisation stays as it is; untrained needs its statistics.
        distiller.set_trainable(normalisation=not pretrained)
        backup = cache.with_name("distilling") / _digest(settings, teacher, model.backbone, subsets["train"])
        history = teach(
            distiller, targets["train"], targets["val"], seed=settings.seed, backup=backup, progress=progress
        )
        directions = thin_directions(distiller, targets["train"], min(THIN, *teacher.dense[0][0].shape))
        fit_s = perf_counter() - started - features_s
        answers = {s: distiller.predict(targets[s].x[: len(subsets[s])], verbose=0) for s in SUBSETS}
        derived = DerivedRun(
            with_head(model, head, directions),
            {**plain(settings), "backbones": row.backbone, "input_size": size},
            {row.backbone: weights_digest(model.backbone)},
            logits={s: np.asarray(answers[s]["logit"], np.float64) for s in SUBSETS},
            teacher_logits={s: targets[s].logit[: len(subsets[s])] for s in SUBSETS},
            map_cosine={s: map_cosine(answers[s]["cam"], targets[s].cam) for s in ("val", "test")},
            history=history,
            seconds={"features": features_s, "fit": fit_s},
        )
        card = write_derived_run(folder, run, subsets, derived, DistilledCard)
    LOG.info(summary(card, out))
    LOG.info(compared(card))
    tell(RunFinished(out, card))
    return card


def _digest(settings: DistillSettings, teacher: Teacher, backbone: keras.Model, data: Dataset) -> str:
    """Digest of everything that decides the training; an interrupted training is found again by it."""
    parts = [json.dumps({**plain(settings), "data": data.digest}), weights_digest(teacher.hidden)]
    parts.append(weights_digest(backbone))
    return sha256_bytes("\n".join(parts).encode())[:32]
