"""`calibrate_site`: the threshold of a bundle from a hospital's own labelled images.

The threshold is a quantile of the positive images' logits, each patient with the same weight. With n positive
patients the k-th lowest has a new one below it with the probability k / (n + 1), whatever the distribution is (Vovk
et al., Algorithmic Learning in a Random World, 2005). So the quantile lies at (1 - s) (n + 1) patients for the aim
s, between two of them by interpolation (type 6 of Hyndman and Fan, The American Statistician, 1996): the
sensitivity is s on the mean over sites. Where that is less than one patient, the threshold lies below the lowest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.bundle.contract import Bundle, Site, SitePoint
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.bundle.signature import sign_file
from sonoedge.edge_runtime.bundle.site import site_file, site_signature, write_site
from sonoedge.edge_runtime.bundle.trust import without_policy
from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.proportion import GroupedCount, Interval, clopper_pearson
from sonoedge.export.bundle.gate import runnable
from sonoedge.train.arguments import names_in
from sonoedge.train.terminal import LOG

if TYPE_CHECKING:
    from sonoedge.train.data.dataset import Dataset

StrPath = str | os.PathLike[str]
MIN_POSITIVE_PATIENTS = 13
"""If all of 13 are found, the lower end of the 95 % interval of the sensitivity is 0.75; with fewer it is lower."""


@dataclass(frozen=True)
class SiteCalibration:
    """What was written.

    Attributes:
        path: the overlay, beside the bundle.
        site: what it holds.
        refused: images that the gate refuses; they have no answer and no part in the threshold.
        best_bound: lower end of the 95 % interval of a sensitivity of 1, with as many positive patients.
        missing: positive patients that are missing for the wanted lower bound, if all are found; 0 if none are.
        has_patients: whether the images say their patients; else every view counted as a patient.
    """

    path: Path
    site: Site
    refused: int
    best_bound: float
    missing: int
    has_patients: bool


def calibrate_site(
    bundle: StrPath = "bundle",
    *,
    data: StrPath,
    sensitivity: float = 0.90,
    lower_bound: float | None = None,
    site: str | None = None,
    artifacts: str | Sequence[str] | None = None,
    key: StrPath | None = None,
    password: bytes | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> SiteCalibration:
    """Choose the threshold of every artifact on local images and write it beside the bundle, which stays as it is.

    Args:
        bundle: folder.
        data: labelled images of the site, of the bundle's classes; images.csv with a column patient, case or group.
        sensitivity: the aim, 0.5–0.99.
        lower_bound: what the 95 % interval of the sensitivity shall reach; only said how many patients are missing.
        site: name of the site, for people; by default that of the data folder.
        artifacts: names; None: every one that can run here.
        key: private key (PEM) that signs the overlay.
        password: of the key.
        threads: for the interpreter.
        progress: show a bar.

    Raises:
        BundleError: the bundle is damaged, or allows no thresholds of a site.
        DataError: the images cannot be used, or are of fewer than `MIN_POSITIVE_PATIENTS` positive patients.
        MissingExtraError: no artifact can run here.
        UsageError: an option with a wrong value.
    """
    from sonoedge.train.data.dataset import load_dataset

    for name, value in (("--sensitivity", sensitivity), ("--lower-bound", lower_bound)):
        if value is not None and not 0.5 <= value <= 0.99:
            raise UsageError(f"{name} must be from 0.5 to 0.99. Received: {value}.")
    opened = without_policy(load_bundle(Path(bundle)))
    if "threshold" not in opened.site_overlay:
        raise UsageError(f"{opened.path} allows no thresholds of a site.")
    names = runnable(opened, names_in(artifacts) or None)
    dataset = load_dataset(Path(data), classes=opened.labels, progress=progress)
    has_patients = len(set(dataset.groups) - {s.relative_path for s in dataset.samples}) > 0
    _require_patients(dataset, lower_bound)
    points, refused = [], 0
    for name in names:
        logits, kept = _logits(opened, name, dataset, threads, progress)
        refused = max(refused, int((~kept).sum()))
        seen = dataset.select(np.flatnonzero(kept))
        _require_patients(seen, lower_bound)
        points.append(_point(name, seen, logits[kept], sensitivity))
    positives = _positive_patients(dataset)
    overlay = Site(
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        site=site or dataset.name,
        bundle=opened.name,
        bundle_digest=bundle_digest(opened.path),
        sensitivity=sensitivity,
        images=len(dataset),
        patients=len(set(dataset.groups)),
        positive_patients=positives,
        points=tuple(points),
    )
    write_site(overlay, opened.path)
    if key is not None:
        sign_file(site_file(opened.path), site_signature(opened.path), Path(key), password)
    if not has_patients:
        LOG.warning(
            "the images do not say their patients: every view counts as one, and the intervals are too narrow."
        )
    missing = max(0, patients_for(lower_bound) - positives) if lower_bound else 0
    return SiteCalibration(
        site_file(opened.path), overlay, refused, clopper_pearson(positives, positives).low, missing, has_patients
    )


def threshold_for(
    logits: NDArray[np.float64], y: NDArray[np.int64], groups: Sequence[str], sensitivity: float
) -> float:
    """The logit at or above which a new positive image lies with the wanted probability.

    Args:
        logits: (N,).
        y: 0 or 1, (N,).
        groups: the patient of each image.
        sensitivity: 0–1.

    Returns:
        The cut, see above.
    """
    positive = np.flatnonzero(y == 1)
    order = positive[np.argsort(logits[positive], kind="stable")]
    names = [groups[i] for i in order]
    counts = {name: names.count(name) for name in names}
    passed = np.cumsum([1 / counts[name] for name in names])
    allowed = (1 - sensitivity) * (len(counts) + 1)
    lowest = float(logits[order[0]])
    if allowed >= passed[0]:
        return float(np.interp(allowed, passed, logits[order]))
    below = logits[logits < lowest]
    return (lowest + float(below.max())) / 2 if below.size else lowest - 0.5


def patients_for(lower_bound: float, level: float = 0.95) -> int:
    """Positive patients, all found, for which the interval of the sensitivity begins at a bound."""
    return math.ceil(math.log((1 - level) / 2) / math.log(lower_bound))


def _positive_patients(dataset: Dataset) -> int:
    return len({sample.group for sample in dataset.samples if sample.label == len(dataset.labels) - 1})


def _require_patients(dataset: Dataset, lower_bound: float | None) -> None:
    count = _positive_patients(dataset)
    if count >= MIN_POSITIVE_PATIENTS:
        return
    wanted = lower_bound or 0.75
    raise DataError(
        f"A site's threshold needs at least {MIN_POSITIVE_PATIENTS} patients with {dataset.labels[-1]}. "
        f"Received: {count}. For a lower bound of {wanted:.2f} of the sensitivity, "
        f"{patients_for(wanted) - count} more are needed, all of them found."
    )


def _logits(
    bundle: Bundle, artifact: str, dataset: Dataset, threads: int | None, progress: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Logit of every image, and whether the gate lets it pass."""
    from tqdm import tqdm

    logits, kept = np.zeros(len(dataset)), np.ones(len(dataset), bool)
    with Classifier(bundle, artifact, threads=threads) as model:
        for i, sample in enumerate(tqdm(dataset.samples, artifact, unit="img", disable=not progress)):
            result = model(read_image(sample.path), ungated=True)
            assert result.logit is not None
            logits[i], kept[i] = result.logit, not result.assessment.refused
    return logits, kept


def _point(artifact: str, dataset: Dataset, logits: NDArray[np.float64], sensitivity: float) -> SitePoint:
    y = (dataset.y == len(dataset.labels) - 1).astype(np.int64)
    cut = threshold_for(logits, y, dataset.groups, sensitivity)
    found = []
    for positive in (True, False):
        mine = np.flatnonzero((y == 1) == positive)
        right = (logits[mine] >= cut) == positive
        found.append(GroupedCount.of(right, [dataset.groups[i] for i in mine]).interval())
    threshold = float(np.clip(1 / (1 + np.exp(-cut)), 1e-9, 1 - 1e-9))
    return SitePoint(artifact, threshold, _triple(found[0]), _triple(found[1]))


def _triple(interval: Interval) -> tuple[float, ...]:
    return tuple(round(float(x), 4) for x in (interval.value, interval.low, interval.high))
