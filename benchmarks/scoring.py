"""Accuracy of the full model and of every artifact on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.bundle import Bundle
from edge_runtime.classifier import Classifier
from edge_runtime.errors import DataError
from edge_runtime.image import read_image, to_input
from train.data import Dataset
from train.metrics import (
    Interval,
    classification_metrics,
    flip_rate,
    paired_accuracy_difference,
    paired_auc_difference,
    sigmoid,
)

Logits = NDArray[np.float64]
SHOWN_METRICS = ("accuracy", "auc", "sensitivity", "specificity")


@dataclass(frozen=True)
class Selection:
    """The images to score, and why these: ``test`` images of the training data, or ``external`` ones."""

    dataset: Dataset
    kind: str
    note: str


@dataclass(frozen=True)
class Score:
    """One model on the images; ``versus`` holds differences from the reference: flips, accuracy and AUC."""

    name: str
    threshold: float
    logits: Logits
    metrics: Mapping[str, Interval]
    versus: Mapping[str, Interval]
    flipped: int


def select_images(bundle: Bundle, dataset: Dataset) -> Selection:
    """Keep what the model has not seen.

    Images known to the bundle by digest are scored only where they are test images. Where none is known, the data
    are external.

    Raises:
        DataError: known images, but no test image among them.
    """
    training = bundle.provenance.get("training") or {}
    subset_by_digest = {
        digest: subset for subset, digests in (training.get("subsets") or {}).items() for digest in digests
    }
    digits = len(next(iter(subset_by_digest), ""))
    subsets = [subset_by_digest.get(sample.sha256[:digits]) if digits else None for sample in dataset.samples]
    if not any(subsets):
        return Selection(dataset, "external", "none of these images was used in training: external data")
    chosen = [i for i, subset in enumerate(subsets) if subset == "test"]
    unknown = sum(subset is None for subset in subsets)
    if not chosen:
        raise DataError("The model was trained or tuned on these images, and none of them is a test image.")
    note = f"test split of the training data; {len(dataset) - len(chosen) - unknown} training and validation images"
    note += f" and {unknown} unknown ones left out" if unknown else " left out"
    return Selection(dataset.select(chosen), "test", note)


def artifact_logits(
    classifiers: Mapping[str, Classifier], dataset: Dataset, *, progress: bool
) -> dict[str, Logits]:
    """Logits (N,) of every artifact; each image is decoded once."""
    logits: dict[str, list[float]] = {name: [] for name in classifiers}
    for sample in tqdm(dataset.samples, desc="scoring", unit="img", disable=not progress):
        image = read_image(sample.path)
        for name, classifier in classifiers.items():
            logits[name].append(classifier.predict(image).logit)
    return {name: np.array(values, np.float64) for name, values in logits.items()}


def keras_logits(model: Any, dataset: Dataset, *, progress: bool) -> Logits:
    """Logits (N,) of the full Keras model, from its ``logit`` layer."""
    import keras

    scorer = keras.Model(model.inputs, model.get_layer("logit").output)
    size = model.input_shape[1:3]
    values: list[float] = []
    for sample in tqdm(dataset.samples, desc="full Keras model", unit="img", disable=not progress):
        values.append(scorer.predict_on_batch(to_input(read_image(sample.path), size)).item())
    return np.array(values)


def score(
    name: str, logits: Logits, threshold: float, dataset: Dataset, reference: tuple[Logits, float] | None
) -> Score:
    """Metrics with 95 % intervals, and paired differences from the reference's (logits, threshold)."""
    y = dataset.y
    metrics = classification_metrics(y, logits, threshold=threshold, groups=dataset.groups)
    versus: dict[str, Interval] = {}
    flipped = 0
    if reference is not None:
        ours = sigmoid(logits) >= threshold
        theirs = sigmoid(reference[0]) >= reference[1]
        flipped = int((ours != theirs).sum())
        versus = {
            "flips": flip_rate(theirs, ours),
            "accuracy_difference": paired_accuracy_difference(theirs == y, ours == y),
            "auc_difference": paired_auc_difference(y, reference[0], logits, dataset.groups),
        }
    return Score(name, threshold, logits, metrics, versus, flipped)


def folder_name(path: Path) -> str:
    """The data set's name in a report: its folder, never its place on this machine."""
    return path.resolve().name
