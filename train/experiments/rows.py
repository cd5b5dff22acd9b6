"""The rows of an ablation: training choices that are compared, and what a first look at them changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.config.options import RECIPES
from sonoedge.train.fitting.heads import LOGISTIC
from sonoedge.train.records.settings import FitSettings

SCREEN: Mapping[str, Any] = {"input_size": 128, "epochs": 6}
"""Settings for a first look at rows that train all layers: differences count, not the level."""
_PLAIN = FitSettings(1e-3, 32, epochs=60, patience=10, weight_decay=1e-2)
_STRONG = structs.replace(_PLAIN, weight_decay=1.0)
_LAST_BLOCKS = "efficientnetb0/(block[67]|top).*"


@dataclass(frozen=True)
class Row:
    """One line of the ablation: a name, what it stands for, and the settings that differ from the others'."""

    name: str
    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_STAGES: Mapping[str, Any] = {"fits": (LOGISTIC,), "maps": "stages"}
_COPIES: Mapping[str, Any] = {**_STAGES, "augment": 2}
COMPACT: Mapping[str, Any] = RECIPES["compact"]
_LITE0: Mapping[str, Any] = {**COMPACT, "backbones": "efficientnetlite0", "learning_rate": None}
_TUNED: Mapping[str, Any] = {**_STAGES, "fine_tune": _LAST_BLOCKS, "fine_tune_rate": 1e-4}

ROWS = {
    row.name: row
    for row in (
        Row("plain", "the last maps, Adam at 1e-3, decay 0.01", {"fits": (_PLAIN,)}),
        Row("decay", "… decay 1", {"fits": (_STRONG,)}),
        Row("balanced", "… decay 1, class weights", {"fits": (structs.replace(_STRONG, balanced=True),)}),
        Row("mixup", "… decay 1, mixed features", {"fits": (structs.replace(_STRONG, mixup=True),)}),
        Row("averaged", "… decay 1, mean of the weights", {"fits": (structs.replace(_STRONG, averaged=True),)}),
        Row("logistic", "the last maps, logistic regression", {"fits": (LOGISTIC,)}),
        Row("stages", "B0's earlier stages too, logistic regression", _STAGES),
        Row("copies", "… and 2 augmented copies an image", _COPIES),
        Row("vgg19", "VGG19 alone, 2 copies", {**_COPIES, "backbones": "vgg19"}),
        Row("b0", "EfficientNetB0 alone, 2 copies", {**_COPIES, "backbones": "efficientnetb0"}),
        Row("tuned", "stages, then B0's last two blocks tuned", {**_TUNED, "fine_tune_epochs": 3}),
        Row("tuned-averaged", "… mean of the weights",
            {**_TUNED, "fine_tune_epochs": 3, "average_weights": True}),
        Row("tuned-copies", "… with 2 copies", {**_TUNED, "fine_tune_epochs": 2, "augment": 2}),
        Row("b0-tuned", "EfficientNetB0 alone, tuned, 2 copies",
            {**_TUNED, "fine_tune_epochs": 2, "augment": 2, "backbones": "efficientnetb0"}),
        Row("compact", "all of MobileNetV1 trained, maps weighted by the lesion", COMPACT),
        Row("compact-plain", "… without the lesion", {**COMPACT, "maps": "last"}),
        Row("compact-unmasked", "… weighted maps, no mask shown", {**COMPACT, "lesion_weight": 0.0}),
        Row("compact-lite0", "the same with EfficientNet-Lite0, at 3e-4", _LITE0),
        Row("compact-lite0-plain", "EfficientNet-Lite0 without the lesion", {**_LITE0, "maps": "last"}),
    )
}  # fmt: skip


def parse_rows(text: str | None) -> tuple[str, ...]:
    """Names of rows from a comma-separated list; None stands for those on frozen features.

    Raises:
        UsageError: an unknown or repeated name, or none.
    """
    if text is None:
        return tuple(name for name, row in ROWS.items() if "protocol" not in row.settings)
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in ROWS]
    if not names or unknown or len(set(names)) != len(names):
        raise UsageError(f"--rows takes different names of {', '.join(ROWS)}. Received: {text!r}.")
    return names
