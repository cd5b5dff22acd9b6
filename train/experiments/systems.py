"""The systems that the paper compares: which backbones, how they are joined, what was published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sonoedge.edge_runtime.errors import UsageError

Join = Literal["features", "probabilities"]


@dataclass(frozen=True)
class System:
    """One row of the paper's comparison.

    Attributes:
        title: what tables call it.
        backbones: keys of `train.models.backbones.BACKBONES`.
        join: ``features``: one head on the concatenated maps; ``probabilities``: a head per backbone, the mean of
            their probabilities.
        published: figures by the names of `train.evaluation.metrics.METRIC_NAMES`, as far as they are known to us.
        note: how this system differs from the one that the paper names; empty if it does not.
    """

    title: str
    backbones: tuple[str, ...]
    join: Join = "features"
    published: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


PROPOSED = "vgg19+efficientnetb0"
"""The paper's own system, which the others are compared with."""

SYSTEMS: dict[str, System] = {
    PROPOSED: System(
        "VGG19 + EfficientNetB0",
        ("vgg19", "efficientnetb0"),
        published={"accuracy": 0.9844, "precision": 0.9855, "sensitivity": 0.9966, "f1": 0.9911, "auc": 0.9999},
    ),
    "vgg16": System("VGG16", ("vgg16",)),
    "vgg19": System("VGG19", ("vgg19",)),
    "efficientnetb0": System("EfficientNetB0", ("efficientnetb0",)),
    "mobilenetv2": System("MobileNetV2", ("mobilenetv2",)),
    "resnet50v2": System("ResNet50V2", ("resnet50v2",)),
    "googlenet": System("GoogLeNet", ("googlenet",)),
    "mobilenet": System(
        "MobileNetV1", ("mobilenet",), note="The paper names MobileNetV2 only; V1 is the compact recipe's backbone."
    ),
    "vgg19+resnet152": System(
        "VGG19, ResNet152",
        ("vgg19", "resnet152"),
        "probabilities",
        note="A mean of probabilities; the paper does not say how its source joins the two.",
    ),
    "vgg16+resnet50+densenet121": System(
        "VGG16, ResNet50, DenseNet121",
        ("vgg16", "resnet50", "densenet121"),
        "probabilities",
        note="A mean of probabilities; the paper says VGG, ResNet and DenseNet without their depths.",
    ),
    "vgg16+inceptionv3": System("VGG16 + InceptionV3", ("vgg16", "inceptionv3")),
}


def parse_systems(text: str | None) -> tuple[str, ...]:
    """Keys of `SYSTEMS` from a comma-separated list; None stands for all.

    Raises:
        UsageError: an unknown or repeated key, or none.
    """
    if text is None:
        return tuple(SYSTEMS)
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in SYSTEMS]
    if not names or unknown or len(set(names)) != len(names):
        wrong = f"Unknown: {', '.join(unknown)}." if unknown else f"Received: {text!r}."
        raise UsageError(f"--systems takes different names of {', '.join(SYSTEMS)}. {wrong}")
    return names
