"""In which modes of training an option does nothing, so that it is refused there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sonoedge.train.records.settings import TrainSettings

WITH_STAGES = ("efficientnetb0",)
"""Backbones with earlier stages that ``--maps`` can add: those with ``stages`` in `train.models.backbones`."""


@dataclass(frozen=True)
class Need:
    """An option does something only if ``met`` holds; ``why`` ends the sentence that refuses it."""

    option: str
    met: Callable[[TrainSettings], bool]
    why: str


def _paper(settings: TrainSettings) -> bool:
    return settings.protocol == "paper"


def _tuned(settings: TrainSettings) -> bool:
    return bool(settings.fine_tune)


_NO_EPOCHS = "the default protocol solves a logistic regression. It needs --protocol paper; "
NEEDS = (
    Need("epochs", _paper, _NO_EPOCHS + "fine-tuning has --fine-tune-epochs, a sweep the epochs of its file."),
    Need("learning_rate", _paper, _NO_EPOCHS + "fine-tuning has --fine-tune-rate, a sweep the rates of its file."),
    Need("batch_size", lambda s: _paper(s) or _tuned(s), (
        "the default protocol solves a logistic regression. It needs --protocol paper or --fine-tune; a sweep has "
        "the sizes of its file."
    )),
    Need("dropout", lambda s: _paper(s) or bool(s.sweep), (
        "the default protocol solves a logistic regression, which its prior smooths. It needs --protocol paper or "
        "--sweep."
    )),
    Need("units", lambda s: not s.sweep, "the file of --sweep has the widths."),
    Need("fine_tune_epochs", _tuned, "nothing is fine-tuned. It needs --fine-tune."),
    Need("fine_tune_rate", _tuned, "nothing is fine-tuned. It needs --fine-tune."),
    Need("average_weights", _tuned, "nothing is fine-tuned. It needs --fine-tune."),
    Need("maps", lambda s: s.maps == "last" or bool({*WITH_STAGES} & {*s.backbones.split(",")}), (
        f"these backbones have no earlier stages. It needs the backbone {', '.join(WITH_STAGES)}."
    )),
)  # fmt: skip
"""Which option needs what. An option without a row does something in every mode."""
