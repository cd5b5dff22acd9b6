"""Everything that decides a run: the settings of training, of distillation and of slimming, with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

Protocol = Literal["default", "paper", "end-to-end"]
Preprocessing = Literal["native", "unit"]
Maps = Literal["last", "stages", "lesion"]
Pooling = Literal["gap", "flatten"]

DEFAULT_COPIES = 2
"""Augmented copies of every training image, if nothing else is asked for: see docs/results/augmentation.md."""


class FitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of one fit.

    Attributes:
        learning_rate: of Adam.
        batch_size: rows.
        epochs: at most.
        patience: epochs without a lower validation loss after which the fit stops.
        weight_decay: decoupled (AdamW); 0 is plain Adam.
        balanced: weigh each class by the inverse of its size.
        mixup: add as many mixtures of two training rows as there are rows, labels mixed alike (Adam only).
        logistic: above 0, the variance of the prior of `train.fitting.logistic`, which replaces Adam.
        averaged: validate and keep the running mean of the weights (Polyak and Juditsky, 1992) over about
            `train.fitting.heads._AVERAGED_STEPS` steps, instead of the last weights.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    patience: int
    weight_decay: float = 0.0
    balanced: bool = False
    mixup: bool = False
    logistic: float = 0.0
    averaged: bool = False


PAPER = FitSettings(learning_rate=1e-5, batch_size=16, epochs=24, patience=10)
"""Table II of the paper: Adam 1e-5, batch 16, 24 epochs, early stopping with patience 10 on val_loss."""


END_TO_END = FitSettings(3e-4, 16, epochs=16, patience=16, balanced=True)
"""Rate, batch and epochs of ``--protocol end-to-end``."""


class TrainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides a run; see ``sonoedge train --help`` for what the fields mean.

    ``data`` is a folder, or several of different sources. ``epochs``, ``batch_size`` and ``learning_rate`` are
    those of gradient training; None leaves them to the protocol. ``fits`` are the settings that a sweep chose.
    ``weight_decay`` and what follows belong to ``--protocol end-to-end``: ``warm_up`` is the share of all steps in
    which the rate rises, ``lesion_weight`` that of the lesion's loss beside the class's.
    """

    data: str | tuple[str, ...]
    weights: str = "imagenet"
    backbones: str = "vgg19,efficientnetb0"
    classes: tuple[str, ...] | None = None
    split: str = "grouped"
    groups: str | None = None
    skip_unreadable: bool = False
    preprocessing: Preprocessing = "native"
    maps: Maps = "last"
    pooling: Pooling = "gap"
    units: tuple[int, ...] = (256,)
    dropout: float = 0.5
    input_size: int = 224
    protocol: Protocol = "default"
    seed: int = 0
    augment: int = 0
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    fits: tuple[FitSettings, ...] | None = None
    sweep: str | None = None
    fine_tune: str | None = None
    fine_tune_epochs: int = 10
    fine_tune_rate: float = 1e-5
    average_weights: bool = False
    mixed_precision: bool = False
    data_parallel: bool = False
    weight_decay: float = 0.01
    warm_up: float = 0.05
    label_smoothing: float = 0.05
    lesion_weight: float = 1.0
    augment_policy: str | None = None


class DistillFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to teach. ``temperature`` and the weights belong to the terms of the loss; see `Distiller`."""

    learning_rate: float = 5e-4
    batch_size: int = 32
    epochs: int = 10
    weight_decay: float = 1e-4
    temperature: float = 2.0
    pooled_weight: float = 1.0
    map_weight: float = 0.5
    cam_weight: float = 1.0
    logit_weight: float = 1.0
    label_weight: float = 0.5


class DistillSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides a distillation; see ``sonoedge distill --help`` for what the fields mean."""

    teacher: str
    data: str
    student: str = "efficientnet-lite0"
    weights: str = "imagenet"
    input_size: int | None = None
    augment: int = 3
    seed: int = 0
    fit: DistillFit = DistillFit()


class SlimSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides a slim model; see ``sonoedge slim --help`` for what the fields mean."""

    teacher: str
    data: str
    divisor: float = 8.0
    images: int = 64
    augment: int = 3
    seed: int = 0
    fit: DistillFit = DistillFit(learning_rate=1e-3)


class DistilledSettings(DistillSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same as a run card holds them, with what the student's run shares with every run."""

    backbones: str
    split: str


class SlimmedSettings(SlimSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same as a run card holds them, with what the slim model's run shares with every run."""

    weights: str
    backbones: str
    input_size: int
    split: str


PLACES = ("data", "weights", "groups", "sweep", "split")
"""Settings of a training that are paths, or words in their place."""
_WORDS = ("imagenet", "none", "grouped", "paper")


def words_only(settings: TrainSettings) -> dict[str, Any]:
    """The settings as plain JSON types without the paths, which may say more than a reader should know."""
    values = msgspec.to_builtins(settings)
    return {name: value for name, value in values.items() if name not in PLACES or value in _WORDS}


def with_whole_paths(settings: TrainSettings) -> TrainSettings:
    """The settings with absolute paths, so that the run can be repeated from another folder."""

    def whole(value: Any) -> Any:
        return tuple(map(whole, value)) if isinstance(value, tuple) else str(Path(value).absolute())

    places = {name: getattr(settings, name) for name in PLACES}
    changed = {name: whole(value) for name, value in places.items() if value and value not in _WORDS}
    return msgspec.structs.replace(settings, **changed)
