"""The findings of the reproduction: comparisons between systems, and differences from the paper in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sonoedge.train.data.dataset import Dataset
from sonoedge.train.evaluation.intervals import Interval
from sonoedge.train.evaluation.metrics import paired_auc_difference
from sonoedge.train.experiments.reproduction import Unit
from sonoedge.train.experiments.systems import PROPOSED, SYSTEMS

METRICS = ("accuracy", "precision", "sensitivity", "f1", "auc")
"""The columns of the paper's Tables III and V; the paper calls sensitivity recall."""

SOURCE_WORDS = {"imagenet": "ImageNet", "file": "file", "none": "untrained"}
SPLIT_WORDS = {"paper": "random split, Table II", "honest": "grouped split, logistic regression"}

PAPER_DIFFERENCES = (
    "The paper's 9,016 files are about 496 source images with turned and sharpened copies. Its random "
    "split puts copies of one image into training and test. The grouped split keeps them together.",
    "Its Table I gives 1,352 test images, its confusion matrix (Fig. 6) counts 1,804, a fifth of 9,016. "
    "Fig. 6 (TP 886, TN 902, FP 13, FN 3) gives an accuracy of 99.11 %, the text and Table III 98.44 %.",
    "Table I's benign rows add up to 4,575, the text says 4,574.",
    "Head widths and pooling are not given. Here: global average pooling, Dense(256, relu), Dropout(0.5), "
    "Dense(1), the same for every system.",
    "It scales all inputs to 0–1; here each backbone gets the input that its weights were trained on.",
    "Table II's 24 epochs at a rate of 1e-5 are 9,500 steps on the paper's 6,300 training images. On a set a tenth "
    "of that size they are too few: the heads hardly leave their start.",
    "Published figures are shown where we have them: those of the paper's own system.",
)


@dataclass(frozen=True)
class Comparison:
    """AUC of the paper's system minus that of another, on the same test images, bootstrapped by group."""

    system: str
    protocol: str
    difference: Interval

    @property
    def verdict(self) -> str:
        """Which system is better, in words, as far as the interval can tell."""
        if self.difference.low > 0:
            return "the fused system is better"
        if self.difference.high < 0:
            return "the fused system is worse"
        return "these images cannot tell"


def compare(units: Sequence[Unit]) -> list[Comparison]:
    """Compare the paper's system with every other that has trained backbones and the same test images."""
    found = []
    for ours in units:
        if ours.system != PROPOSED or not ours.trained:
            continue
        for other in units:
            same = other.protocol == ours.protocol and list(other.test_images) == list(ours.test_images)
            if other.system != PROPOSED and other.trained and same:
                difference = paired_auc_difference(ours.y, other.logits, ours.logits, ours.groups)
                found.append(Comparison(other.system, ours.protocol, difference))
    return found


def data_line(dataset: Dataset) -> str:
    """The data set in one line."""
    counts = ", ".join(f"{int((dataset.y == k).sum())} {label}" for k, label in enumerate(dataset.labels))
    return f"{dataset.name}: {len(dataset)} images in {len(set(dataset.groups))} groups ({counts})"


def notes(units: Sequence[Unit]) -> list[str]:
    """Notes on these runs that a reader must know before the figures."""
    lines = []
    untrained = [SYSTEMS[key].title for key in dict.fromkeys(u.system for u in units if not u.trained)]
    if untrained:
        lines.append(
            f"No trained weights were at hand for {'; '.join(untrained)}: these ran with untrained backbones on "
            "fewer images. Their figures show that the code works; they enter no comparison."
        )
    if any("file" in unit.sources.values() for unit in units):
        lines.append("Weights from files need not be ImageNet's: the figures hold for those files.")
    return lines


def differences(units: Sequence[Unit]) -> list[str]:
    """Differences from the paper: its own contradictions, and systems that do not follow it exactly."""
    systems = dict.fromkeys(unit.system for unit in units)
    return [*PAPER_DIFFERENCES, *(f"{SYSTEMS[s].title}: {SYSTEMS[s].note}" for s in systems if SYSTEMS[s].note)]


def shown_in_plots(units: Sequence[Unit]) -> list[Unit]:
    """The units with trained backbones; all units if there are none."""
    return [unit for unit in units if unit.trained] or list(units)
