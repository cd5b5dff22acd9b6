"""MODEL_CARD.md of a bundle, from its measured figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.train.evaluation.results import shown
from sonoedge.train.evaluation.subgroups import subgroup_table
from sonoedge.train.markdown import markdown_table
from sonoedge.train.records.run_card import DistilledCard, RunCard, SlimCard, TrainedCard


def model_card(bundle: Bundle, card: RunCard | None) -> str:
    """Markdown text of the model card.

    Args:
        bundle: complete.
        card: the run card; None if the model does not come from a run folder.
    """
    lines = [
        f"# {bundle.name}",
        "",
        f"**{bundle.intended_use}**",
        "",
        f"Binary classifier of B-mode breast ultrasound: {' / '.join(bundle.labels)}, positive label "
        f"`{bundle.positive_label}`. Input: RGB {bundle.input.width}x{bundle.input.height}, 0–255, stretched with "
        "an antialiased bilinear filter. Feature maps: "
        + ", ".join(f"{b.name} {b.height}x{b.width}x{b.channels}" for b in bundle.branches)
        + ".",
        "",
        "## Artifacts",
        "",
        _artifacts(bundle),
    ]
    lines += _promises(bundle) + _targets(bundle)
    lines += ["", "## Training", ""]
    if card is None:
        lines.append("A Keras model given by the user; nothing is known about its training.")
    else:
        lines += _training(card)
    calibration = bundle.provenance.get("calibration")
    if calibration:
        lines += ["", "## Quantization calibration", ""]
        lines.append(
            f"{calibration['images']} images from the {calibration['source']}, seed {calibration['seed']}."
        )
        lines += [f"Warning: {warning}" for warning in calibration["warnings"]]
    lines += ["", "## Out-of-domain gate", "", *_gate(bundle.provenance.get("gate"))]
    lines += [
        "",
        "## Limits",
        "",
        "- Figures hold for images like those of the test set: other scanners, presets and populations lower them.",
        "- The stretch to a square input ignores pixel spacing; lesions are classified by look, not by size.",
        "- A probability is a model output, not the probability of disease in a patient.",
        "",
    ]
    return "\n".join(lines)


def _artifacts(bundle: Bundle) -> str:
    rows = []
    for a in bundle.artifacts:
        error = a.metrics.get("golden_logit_error")
        shown = "" if error is None else f"{error:.2e}"
        rows.append([a.name, a.precision, f"{a.size_bytes / 1e6:.1f}", f"{a.threshold:.3f}", shown])
    difference = "largest logit difference from Keras (golden images)"
    return markdown_table(["artifact", "precision", "size (MB)", "threshold", difference], rows)


def _gate(facts: Mapping[str, Any] | None) -> list[str]:
    if facts is None:
        return ["None: nothing tells the device which pictures are unlike those of training."]
    lines = [
        f"It refuses pictures that are far from the images of the {facts['source']}, and flags those that are "
        "unlike them. It tells whether a picture is like those of training, not whether an answer is right.",
        "",
        f"- Fitted to {facts['images']} images of the {facts['source']} and {facts['copies']} augmented copies of "
        f"each; limits from {facts['validation_images']} other images and {facts['views']} views of them, as other "
        "scanners and settings might show them.",
    ]
    lines += [
        f"- {subset.capitalize()} images: {rate['refused']:.1%} of {rate['images']} refused, "
        f"{rate['flagged']:.1%} flagged."
        for subset, rate in facts["rates"].items()
    ]
    limits = [
        [name, *(f"{own[kind]:.3f}" for kind in ("warning", "threshold"))] for name, own in facts["limits"].items()
    ]
    return [*lines, "", markdown_table(["artifact", "flagged above", "refused above"], limits)]


def _promises(bundle: Bundle) -> list[str]:
    """Lines with the promise about the decisions of every quantized file."""
    found = {a.name: a.metrics["promise"] for a in bundle.artifacts if "promise" in a.metrics}
    if not found:
        return []
    lines = [
        "",
        "## Decisions against float32",
        "",
        "Point estimates choose the file. Verdicts come from 95 % intervals by group (patient or source image): "
        "PASS if the whole interval is within the budget, FAIL if it is outside, INCONCLUSIVE if it crosses it.",
        "",
    ]
    for name, promised in found.items():
        text = promised["text"]
        lines.append(f"- {name}: {text}." if promised["kept"] else f"- **{name}: {text}.**")
    return lines


def _targets(bundle: Bundle) -> list[str]:
    """Lines with what the compiler of an integer target says of a file."""
    found = {a.name: a.metrics["target"] for a in bundle.artifacts if "target" in a.metrics}
    if not found:
        return []
    lines = [
        "",
        "## Integer hardware",
        "",
        "The backbone is int8 from its input (image - 128) to its maps. The head is a float step on the host: it "
        "reads the maps as float32, (stored - zero point) * scale, and gives logit, probability and Grad-CAM.",
        "",
    ]
    for name, report in found.items():
        lines.append(f"- {name} for {report['name']}: {report['text']}.")
        if "command" in report:
            lines.append(f"  To compile it: `{report['command']}`, in the folder `{name}`.")
    return lines


def _training(card: RunCard) -> list[str]:
    settings, dataset = card.settings, card.dataset
    counts = ", ".join(f"{n} {subset}" for subset, n in dataset.images.items())
    weights = _weights(settings.weights)
    if isinstance(card, SlimCard):
        how = (
            f"Backbones {settings.backbones} of a larger model (weights: {weights}), the multiply-adds of its "
            f"VGG divided by {card.settings.divisor:g} in closed form"
        )
    elif isinstance(card, DistilledCard):
        how = f"Backbone {settings.backbones} (started from: {weights}), taught by a larger model"
    else:
        how = f"Backbones {settings.backbones} (frozen; weights: {weights}), protocol `{card.settings.protocol}`"
    lines = [
        f"- {how}, split `{settings.split}`, seed {settings.seed}.",
        f"- Images: {counts}; data digest `{dataset.digest[:16]}`; "
        f"{dataset.groups_on_both_sides} held-out images with a copy in training.",
    ]
    for subset, metrics in card.metrics.items():
        figures = ", ".join(
            f"{name} {shown(*metrics[name])}" for name in ("accuracy", "auc", "sensitivity", "specificity")
        )
        lines.append(f"- Full model, {subset}: {figures} (95 % intervals).")
    if table := subgroup_table(card.subgroups if isinstance(card, TrainedCard) else {}):
        lines += ["", "Subgroups of the test images, 95 % intervals by group:", "", table]
    return lines


def _weights(name: str) -> str:
    """Name of the weights; the path of a local folder says nothing to the reader of a bundle."""
    return name if name in {"imagenet", "none"} else "own files"
