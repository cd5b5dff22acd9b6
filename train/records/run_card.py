"""run.json, the run card: what was asked for, what came out, and on what data.

There are three kinds, one for each command that makes a run: `TrainedCard`, `DistilledCard`, `SlimCard`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import msgspec

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.train.records.reader import Record, read_record
from sonoedge.train.records.settings import (
    DistilledSettings,
    FitSettings,
    SlimmedSettings,
    TrainSettings,
)

CARD = "run.json"

Estimate = tuple[float | None, float | None, float | None]
"""Value, low and high end of a 95 % interval; None for what is undefined."""
Metrics = dict[str, Estimate]
"""Estimates by the names of `train.evaluation.metrics.classification_metrics`."""
Losses = dict[str, list[float | None]]
"""By name of a quantity, such as ``val_loss``, its value after every epoch."""
AGAIN = "Train the run again: sonoedge train --data DATA --out RUN."


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a record."""


class DataFacts(_Part, frozen=True):
    """The images: digest of all, what was merged or left out, how many by subset, and leaks of the split."""

    digest: str
    notes: tuple[str, ...]
    images: dict[str, int]
    groups_on_both_sides: int


class Subgroup(_Part, frozen=True):
    """Test images of one scanner, BI-RADS value or lesion size."""

    images: int
    malignant: int
    metrics: Metrics


class Candidate(FitSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a fit that was tried, and its figures on validation."""

    val_auc: float | None
    val_loss: float | None
    epochs_run: int


class Point(_Part, frozen=True):
    """One combination of a sweep (width of the head, settings of the fit) and its figures on validation."""

    units: int
    fit: FitSettings
    val_auc: float | None
    val_loss: float | None
    epochs_run: int

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: AUC, then the loss."""
        worst = float("-inf")
        auc, loss = self.val_auc, self.val_loss
        return worst if auc is None else auc, worst if loss is None else -loss


class Pipeline(_Part, frozen=True):
    """The computing of features: how many were not cached, and the share of the time spent waiting for images."""

    workers: int
    images_computed: int
    seconds: float
    waiting_share: float | None


class TeacherFacts(_Part, frozen=True):
    """Digests of the teacher's weights by backbone, and its metrics by subset."""

    weights: dict[str, str]
    metrics: dict[str, Metrics]


class Distillation(_Part, frozen=True):
    """A model against the run that it was made from; ``map_cosine_median`` is that of the Grad-CAM maps."""

    teacher: TeacherFacts
    auc_minus_teacher: dict[str, Estimate]
    map_cosine_median: dict[str, float | None]


class Card(Record, frozen=True, kw_only=True):
    """What all kinds of runs say.

    Attributes:
        labels: class names, the positive one last.
        threshold: the probability from which on an image is called positive.
        weights: digest of the weights by backbone.
        metrics: of the full model, by subset.
        history: of the fit, by epoch.
        seconds: wall-clock time by step.
    """

    schema_version: Literal[1] = 1
    labels: tuple[str, ...]
    threshold: float
    threshold_rule: str
    dataset: DataFacts
    weights: dict[str, str]
    metrics: dict[str, Metrics]
    history: Losses
    seconds: dict[str, float]
    peak_memory_bytes: int | None
    backend: str
    versions: dict[str, str]
    intended_use: str


class TrainedCard(Card, frozen=True, kw_only=True, tag="sonoedge-run"):
    """The card of ``sonoedge train``. ``temperature`` is the divisor of the logits, in the last layer already."""

    settings: TrainSettings
    chosen_fit: FitSettings
    candidates: tuple[Candidate, ...]
    temperature: float
    sweep: tuple[Point, ...]
    subgroups: dict[str, Subgroup]
    fine_tune_history: Losses | None
    pipeline: Pipeline


class DistilledCard(Card, frozen=True, kw_only=True, tag="sonoedge-distilled-run"):
    """The card of ``sonoedge distill``."""

    settings: DistilledSettings
    distillation: Distillation


class SlimCard(Card, frozen=True, kw_only=True, tag="sonoedge-slim-run"):
    """The card of ``sonoedge slim``."""

    settings: SlimmedSettings
    distillation: Distillation


RunCard = TrainedCard | DistilledCard | SlimCard


def read_card(path: Path) -> RunCard:
    """Read a run card.

    Raises:
        DataError: an earlier or later version of SonoEdge wrote it.
        ModelError: it cannot be read, or is no run card of this version.
    """
    found = read_record(
        path, TrainedCard, DistilledCard, SlimCard, what="run card", again=AGAIN, earlier_key="threshold",
        broken=ModelError,
    )  # fmt: skip
    return cast(RunCard, found)
