"""The run folder of a model that was made from another run: the usual files, and the comparison with that run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import keras

from sonoedge.edge_runtime.device.peak_memory import peak_bytes
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.data.split import SUBSETS, joined, leak_count, write_split
from sonoedge.train.evaluation.intervals import without_nan
from sonoedge.train.evaluation.metrics import paired_auc_difference
from sonoedge.train.evaluation.results import (
    History,
    Logits,
    draw_figures,
    interval_list,
    predictions_csv,
    shown,
    subset_metrics,
)
from sonoedge.train.evaluation.run_folder import MODEL, PREDICTIONS, SPLIT, Run, versions
from sonoedge.train.evaluation.thresholds import STEADY_RULE, steady_threshold
from sonoedge.train.records.reader import as_record, write_record
from sonoedge.train.records.run_card import CARD, DistilledCard, SlimCard

_JUDGED = ("val", "test")
Derived = TypeVar("Derived", DistilledCard, SlimCard)


@dataclass(frozen=True)
class DerivedRun:
    """A model made from another run, and what was measured.

    Attributes:
        model: the whole model, image -> probability.
        settings: how it was made; holds weights, backbones, input_size and seed, which mean what they mean in
            `train.fitting.steps.TrainSettings`.
        weights: digest by backbone.
        logits, teacher_logits: by subset, float64 (N,).
        map_cosine: by subset, median cosine of the Grad-CAM maps with the teacher's.
        history: losses by epoch.
        seconds: wall-clock time by step.
    """

    model: keras.Model
    settings: Mapping[str, Any]
    weights: Mapping[str, str]
    logits: dict[str, Logits]
    teacher_logits: Mapping[str, Any]
    map_cosine: Mapping[str, float]
    history: History
    seconds: Mapping[str, float]


def write_derived_run(
    folder: Path, teacher: Run, subsets: dict[str, Dataset], derived: DerivedRun, kind: type[Derived]
) -> Derived:
    """Write the files of a run folder.

    Args:
        folder: an empty folder.
        teacher: the run that the model was made from.
        subsets: images by subset.
        derived: the model.
        kind: of the run card.

    Returns:
        The run card.
    """
    logits = derived.logits
    threshold = steady_threshold(subsets["val"].y, logits["val"])
    found: dict[str, Any] = {
        "kind": kind.__struct_config__.tag,
        "settings": {**derived.settings, "split": teacher.split.strategy},
        "labels": list(teacher.split.labels),
        "threshold": threshold,
        "threshold_rule": STEADY_RULE,
        "dataset": {
            "digest": joined(subsets).digest,
            "notes": list(teacher.card.dataset.notes),
            "images": {subset: len(subsets[subset]) for subset in SUBSETS},
            "groups_on_both_sides": leak_count(teacher.split),
        },
        "weights": dict(derived.weights),
        "metrics": {s: subset_metrics(subsets[s], logits[s], threshold) for s in _JUDGED},
        "distillation": {
            "teacher": {"weights": teacher.card.weights, "metrics": teacher.card.metrics},
            "auc_minus_teacher": {
                s: interval_list(
                    paired_auc_difference(subsets[s].y, derived.teacher_logits[s], logits[s], subsets[s].groups)
                )
                for s in _JUDGED
            },
            "map_cosine_median": dict(derived.map_cosine),
        },
        "history": derived.history,
        "seconds": {name: round(value, 2) for name, value in derived.seconds.items()},
        "peak_memory_bytes": peak_bytes(),
        "backend": keras.config.backend(),
        "versions": versions("sonoedge", "keras", "tensorflow", "numpy", "scikit-learn"),
        "intended_use": INTENDED_USE,
    }
    card = as_record(without_nan(found), kind)
    derived.model.save(folder / MODEL)
    write_split(teacher.split, folder / SPLIT)
    write_text_atomic(folder / PREDICTIONS, predictions_csv(subsets, logits, teacher.split.labels))
    draw_figures(folder, subsets, logits, teacher.split.labels, threshold, derived.history)
    write_record(card, folder / CARD)
    return card


def compared(card: Derived) -> str:
    """One line: the model against its teacher on the test images."""
    found = card.distillation
    cosine = found.map_cosine_median["test"]
    return (
        f"AUC on test minus the teacher's: {shown(*found.auc_minus_teacher['test'])}; median cosine of the "
        f"Grad-CAM maps: {'undefined' if cosine is None else f'{cosine:.3f}'}"
    )
