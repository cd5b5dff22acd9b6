"""`add_gate`: give an older bundle the out-of-domain gate that every new one gets; `check_gate` tests one.

A gate is the file ``domain.npz`` in the bundle (see `export.gate.fit`); adding it renews SHA256SUMS.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.backends import is_available
from sonoedge.edge_runtime.bundle.contract import MANIFEST, MODEL_CARD, Bundle
from sonoedge.edge_runtime.bundle.freshness import dated
from sonoedge.edge_runtime.bundle.manifest import load_bundle, write_manifest
from sonoedge.edge_runtime.bundle.trust import without_policy
from sonoedge.edge_runtime.errors import BundleError, DataError, MissingExtraError, UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.gate import Gate, load_gate
from sonoedge.train.arguments import names_in, path_of
from sonoedge.train.folders import atomic_directory

if TYPE_CHECKING:
    from sonoedge.export.gate.fit import FittedGate
    from sonoedge.train.records.run_card import RunCard

StrPath = str | os.PathLike[str]
SIGNATURE = "SHA256SUMS.sig"


@dataclass(frozen=True)
class GateRates:
    """How many of a set's images a gate refuses and flags, 0–1.

    ``median`` is that of the distance. ``auc`` is the probability that an image lies farther out than a test image
    of the run, ties by half; None for the test images themselves.
    """

    images: str
    n: int
    refused: float
    flagged: float
    median: float
    auc: float | None


@dataclass(frozen=True)
class GateCheck:
    """A stored gate on images: flagged above ``warning``, refused above ``threshold``; a row for each set."""

    artifact: str
    warning: float
    threshold: float
    sets: tuple[GateRates, ...]


def add_gate(
    bundle: StrPath = "bundle",
    *,
    model: StrPath | None = None,
    data: StrPath | None = None,
    feature_cache: StrPath | None = None,
    artifacts: str | Sequence[str] | None = None,
    progress: bool = False,
) -> FittedGate:
    """Fit the gate and publish the bundle with it; the old bundle stays until the new one is complete.

    Args:
        bundle: folder; a gate that it has is replaced.
        model: run folder of the bundle's model; None: the newest under ``runs``.
        data: where the run's images are now.
        feature_cache: the cache of `train`.
        artifacts: names; None: every one that can run here.
        progress: show bars.

    Raises:
        BundleError: the bundle is damaged, or not of that run.
        DataError: the run's images are not there.
        MissingExtraError: no artifact can run here.
    """
    from sonoedge.train.evaluation.run_folder import load_subsets, newest_run, open_run

    opened = without_policy(load_bundle(Path(bundle)))
    run = open_run(newest_run() if model is None else Path(model))
    names = runnable(opened, artifacts)
    images = load_subsets(run, path_of(data))
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.export.convert.splitting import split_model
        from sonoedge.export.gate.fit import make_gate
        from sonoedge.export.gate.images import copies_of, images_of_run
        from sonoedge.train.features.cache import default_cache
        from sonoedge.train.models.fusion import load_model

        split = split_model(load_model(run.path))
    if split.head.branches != opened.branches:
        raise BundleError(f"{opened.path} was not made from the model of {run.path}: its branches differ.")
    chosen = replace(opened, artifacts=tuple(opened.artifact(name) for name in names))
    cache = path_of(feature_cache) or default_cache()
    fitted = make_gate(chosen, split, images_of_run(images, copies_of(run)), cache=cache, progress=progress)
    publish_gate(opened, fitted, run.card)
    return fitted


def check_gate(
    bundle: StrPath,
    folders: Sequence[StrPath],
    *,
    model: StrPath | None = None,
    data: StrPath | None = None,
    artifacts: str | Sequence[str] | None = None,
    grey: bool = False,
    progress: bool = False,
) -> GateCheck:
    """Count how many of the run's test images, and of the images of each folder, the stored gate refuses and flags.

    Args:
        bundle: folder, with a gate; it stays as it is.
        folders: of images.
        model, data, artifacts, progress: see `add_gate`; the first artifact is used.
        grey: take the folders' images in grey, as B-mode is.

    Raises:
        DataError: a folder holds no images.
        UsageError: the bundle has no gate.
    """
    from sonoedge.export.gate.features import file_features
    from sonoedge.export.gate.fit import distances
    from sonoedge.train.evaluation.run_folder import load_subsets, newest_run, open_run

    opened = without_policy(load_bundle(Path(bundle)))
    run = open_run(newest_run() if model is None else Path(model))
    artifact = runnable(opened, artifacts)[0]
    test = [sample.path for sample in load_subsets(run, path_of(data))["test"].samples]
    gate = load_gate(opened, artifact)
    if gate is None:
        raise UsageError(f"The bundle has no gate for {artifact}: run without --check first.")
    classifier = Classifier(opened, artifact)
    inside = distances(gate, file_features(classifier, test, progress=progress))
    rows = [_rates("test", inside, gate, None)]
    for folder in folders:
        if not (paths := find_images(Path(folder))):
            raise DataError(f"No images in {folder}.")
        outside = distances(gate, file_features(classifier, paths, progress=progress, grey=grey))
        rows.append(_rates(str(folder), outside, gate, inside))
    return GateCheck(artifact, gate.warning, gate.threshold, tuple(rows))


def runnable(bundle: Bundle, artifacts: str | Sequence[str] | None) -> list[str]:
    """The artifacts that are asked for and can run here.

    Raises:
        MissingExtraError: none can run here.
        UsageError: the bundle has no artifact of a name.
    """
    names = names_in(artifacts) or [a.name for a in bundle.artifacts]
    found = [name for name in names if is_available(bundle.artifact(name).runtime)]
    if not found:
        raise MissingExtraError("An interpreter for this bundle", "litert")
    return found


def publish_gate(bundle: Bundle, fitted: FittedGate, card: RunCard | None = None) -> Bundle:
    """Publish the bundle again with ``domain.npz`` in it; an old gate is replaced, a signature is removed.

    Args:
        bundle: replaced in its folder.
        fitted: the gate.
        card: the run card; with it the model card is written again.
    """
    from sonoedge.export.bundle.model_card import model_card
    from sonoedge.export.gate.fit import write_gate

    with atomic_directory(bundle.path, marker=MANIFEST) as folder:
        shutil.copytree(bundle.path, folder, dirs_exist_ok=True)
        (folder / SIGNATURE).unlink(missing_ok=True)  # signs the old bundle
        staged = replace(bundle, path=folder, provenance={**bundle.provenance, "gate": fitted.facts})
        write_gate(staged, fitted)
        if card is not None:
            write_text_atomic(folder / MODEL_CARD, model_card(staged, card))
        write_manifest(dated(staged))
        load_bundle(folder)
    return load_bundle(bundle.path)


def _rates(name: str, values: NDArray[np.float64], gate: Gate, inside: NDArray[np.float64] | None) -> GateRates:
    from sonoedge.export.gate.fit import rates

    auc = None
    if inside is not None:
        pairs = np.sign(values[:, None] - inside[None]) / 2 + 0.5
        auc = round(float(pairs.mean()), 4)
    found = rates(values, gate)
    return GateRates(name, len(values), found["refused"], found["flagged"], float(np.median(values)), auc)
