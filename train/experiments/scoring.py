"""A finished run on other images, by subgroup, and the log of every such scoring.

An external set is for measuring, not for choosing: the log in the run folder tells how often the set was used.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.evaluation.intervals import without_nan
from sonoedge.train.evaluation.run_folder import TrainedRun
from sonoedge.train.evaluation.seen import find_seen
from sonoedge.train.evaluation.subgroups import SHOWN, by_column, cell, shown_metrics, subgroups
from sonoedge.train.features.cache import extract_features
from sonoedge.train.fitting.feature_set import FeatureSet
from sonoedge.train.fitting.heads import head_logits
from sonoedge.train.models.fusion import load_model, logit_model, open_model
from sonoedge.train.records.reader import Record, as_record, record_text
from sonoedge.train.records.run_card import Metrics, Subgroup, TrainedCard
from sonoedge.train.tables import Column, fitted

SCORINGS = "scorings.jsonl"
"""The log in the run folder: one `Score` a line."""


class Score(Record, frozen=True, kw_only=True, tag="sonoedge-scoring"):
    """What a run was worth on a set of images.

    Attributes:
        run, data: names of the two folders.
        digest: of the images that were scored.
        left_out_as_seen: images that the run was trained or chosen on, or copies of such; of the copies there are
            ``left_out_as_copies``.
        not_compared: images of the run that are gone, so that no copies of them were looked for.
        metrics: value and 95 % interval by group; None for what is undefined.
        earlier_scorings: how often this run was scored on these images before.
    """

    schema_version: Literal[1] = 1
    run: str
    data: str
    digest: str
    images: int
    groups: int
    left_out_as_seen: int
    left_out_as_copies: int
    not_compared: int
    metrics: Metrics
    subgroups: dict[str, Subgroup]
    intended_use: str
    time: str
    earlier_scorings: int


def score_run(
    finished: TrainedRun, dataset: Dataset, columns: Sequence[str] | None, *, cache: Path, progress: bool
) -> Score:
    """Metrics with intervals, overall and by subgroup, on images outside the run's training and validation.

    The scoring is added to the log in the run folder.

    Args:
        finished: the run.
        dataset: images; those that the run has seen are left out.
        columns: of the folder's CSV, see `train.evaluation.subgroups.by_column`.
        cache: folder of cached features.
        progress: show bars.

    Raises:
        UsageError: the folder's CSV lacks a column, or no image is left.
    """
    by_column(dataset, columns)  # a wrong column fails before anything is computed
    seen = find_seen(finished, dataset, progress=progress)
    kept = [i for i in range(len(dataset)) if i not in seen.rows]
    if not kept:
        raise UsageError("The run has seen all these images, or copies of them, in training or validation.")
    dataset = dataset.select(kept)
    logits = logits_of(finished, dataset, cache, progress=progress)
    log = finished.path / SCORINGS
    earlier = log.read_text(encoding="utf-8") if log.is_file() else ""
    result: dict[str, Any] = {
        "kind": "sonoedge-scoring",
        "run": finished.path.name,
        "data": dataset.name,
        "digest": dataset.digest,
        "images": len(dataset),
        "groups": len(set(dataset.groups)),
        "left_out_as_seen": len(seen.rows),
        "left_out_as_copies": len(seen.copies),
        "not_compared": seen.not_compared,
        "metrics": shown_metrics(dataset, logits, finished.threshold, range(len(dataset))),
        "subgroups": subgroups(dataset, logits, finished.threshold, columns),
        "intended_use": INTENDED_USE,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "earlier_scorings": sum(dataset.digest in line for line in earlier.splitlines()),
    }
    score = as_record(without_nan(result), Score)
    write_text_atomic(log, earlier + record_text(score, indent=None))
    return score


def render(score: Score) -> str:
    """A scoring as a text table."""
    rows = [["all", str(score.images), *_cells(score.metrics)]]
    rows += [[name[:41], str(part.images), *_cells(part.metrics)] for name, part in score.subgroups.items()]
    lines = [
        f"{score.run} on {score.data}: {score.images} images in {score.groups} groups",
        fitted([Column("", 42, left=True), Column("images", 7), *(Column(name, 22) for name in SHOWN)], rows),
    ]
    if score.left_out_as_seen:
        lines.append(
            f"note: {score.left_out_as_seen} images left out that the run has seen, "
            f"{score.left_out_as_copies} of them as copies."
        )
    if score.not_compared:
        lines.append(
            f"note: {score.not_compared} images of the run are not where it read them: no copies of these were "
            "looked for."
        )
    if score.earlier_scorings:
        lines.append(f"note: this run was scored on these images {score.earlier_scorings} times before.")
    return "\n".join([*lines, "95 % intervals, by group.", INTENDED_USE])


def _cells(metrics: Metrics) -> list[str]:
    return [cell(metrics[name]) for name in SHOWN]


def logits_of(finished: TrainedRun, dataset: Dataset, cache: Path, *, progress: bool) -> NDArray[np.float64]:
    """The full model's logits, float64 (N,), through the cache: backbones that runs share see an image once.

    No other run shares the backbone of a student or of a slim model, so the logits of the whole model are cached.
    """
    if not isinstance(finished.card, TrainedCard):
        whole = {"logit": logit_model(load_model(finished.model_path))}
        found = extract_features(whole, dataset.samples, cache=cache, progress=progress)
        return np.asarray(found["logit"][:, 0], np.float64)
    model = open_model(finished.model_path)
    features = extract_features(model.branches, dataset.samples, cache=cache, progress=progress)
    return head_logits(model, FeatureSet(features, dataset.y))
