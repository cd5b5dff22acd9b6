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


def _whole(settings: TrainSettings) -> bool:
    return settings.protocol == "end-to-end"


_WHOLE = "it belongs to training all layers. It needs --recipe compact or --protocol end-to-end."
_NO_EPOCHS = "the default protocol solves a logistic regression. It needs --protocol paper or --recipe compact; "
NEEDS = (
    Need("epochs", lambda s: _paper(s) or _whole(s), (
        _NO_EPOCHS + "fine-tuning has --fine-tune-epochs, a sweep the epochs of its file."
    )),
    Need("learning_rate", lambda s: _paper(s) or _whole(s), (
        _NO_EPOCHS + "fine-tuning has --fine-tune-rate, a sweep the rates of its file."
    )),
    Need("batch_size", lambda s: _paper(s) or _whole(s) or _tuned(s), (
        "the default protocol solves a logistic regression. It needs --protocol paper, --recipe compact or "
        "--fine-tune; a sweep has the sizes of its file."
    )),
    Need("dropout", lambda s: _paper(s) or _whole(s) or bool(s.sweep), (
        "the default protocol solves a logistic regression, which its prior smooths. It needs --protocol paper or "
        "--sweep."
    )),
    Need("units", lambda s: not s.sweep, "the file of --sweep has the widths."),
    Need("fine_tune_epochs", _tuned, "nothing is fine-tuned. It needs --fine-tune."),
    Need("fine_tune_rate", _tuned, "nothing is fine-tuned. It needs --fine-tune."),
    Need("average_weights", _tuned, "nothing is fine-tuned. It needs --fine-tune."),
    Need("augment", lambda s: not _whole(s), (
        "training all layers changes every image anew in every epoch; see --augment-policy."
    )),
    Need("fine_tune", lambda s: not _whole(s), "all layers are trained."),
    Need("sweep", lambda s: not _whole(s), "it is for heads on frozen features."),
    *(Need(name, _whole, _WHOLE) for name in ("weight_decay", "label_smoothing", "augment_policy", "warm_up")),
    Need("lesion_weight", lambda s: _whole(s) and s.maps == "lesion", (
        "no lesion is predicted. It needs --recipe compact, or --protocol end-to-end with --maps lesion."
    )),
    Need("maps", lambda s: s.maps != "stages" or bool({*WITH_STAGES} & {*s.backbones.split(",")}), (
        f"these backbones have no earlier stages. It needs the backbone {', '.join(WITH_STAGES)}."
    )),
)  # fmt: skip
"""Which option needs what. An option without a row does something in every mode."""
