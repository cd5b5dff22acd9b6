"""Unlabelled frames on the workstation: flips between float32 and the published file need no labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sonoedge.edge_runtime.backends import Runner
from sonoedge.edge_runtime.device.agreement import find_frames
from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.export.guard.candidate_table import Candidate
from sonoedge.export.guard.comparison import Logits
from sonoedge.export.guard.evaluator import Evaluator
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.data.grouping import groups_from_pairs, near_duplicate_pairs, pairs_with_equal, thumbnail
from sonoedge.train.evaluation.intervals import differing
from sonoedge.train.evaluation.metrics import sigmoid


@dataclass
class AgreementFrames:
    """Frames of ``--agreement-data``, and float32's answers to them.

    Attributes:
        dataset: N frames; their labels mean nothing.
        answers: by runtime, float32's logits (N,) and decisions, bool (N,).
    """

    dataset: Dataset
    answers: dict[str, tuple[Logits, np.ndarray]] = field(default_factory=dict)

    def add_to(self, candidate: Candidate, evaluator: Evaluator, runner: Runner) -> Candidate:
        """The candidate with the count of decisions that differ on the frames; also fills ``answers``.

        Args:
            candidate: measured on validation images.
            evaluator: of these frames.
            runner: the candidate's open backbone.
        """
        assert candidate.comparison is not None
        decisions = sigmoid(evaluator.reference) >= evaluator.threshold
        self.answers[evaluator.runtime] = (evaluator.reference, decisions)
        logits = evaluator.logits(candidate.path, runner, f"{candidate.name} on frames")
        own = sigmoid(logits) >= candidate.comparison.threshold
        frames = differing(decisions, own, self.dataset.groups)
        return replace(candidate, comparison=replace(candidate.comparison, frames=frames))

    def lines(self) -> str:
        """The content of agreement.jsonl (see `edge_runtime.device.agreement`)."""
        numbers = {group: number for number, group in enumerate(sorted(set(self.dataset.groups)))}
        rows = [
            {
                "sha256": sample.sha256,
                "group": numbers[sample.group],
                "runtime": runtime,
                "logit": round(float(logit), 6),
                "positive": bool(positive),
            }
            for runtime, (logits, decisions) in sorted(self.answers.items())
            for sample, logit, positive in zip(self.dataset.samples, logits, decisions, strict=True)
        ]
        return "".join(json.dumps(row) + "\n" for row in rows)


def agreement_frames(folder: Path, used: Mapping[str, str]) -> AgreementFrames:
    """Read frames and form their groups: patients from an images.csv, else near-duplicates.

    Without an images.csv, frames of one patient that look different count as independent.

    Args:
        folder: images at any depth, no labels.
        used: use of each image that was used, by SHA-256: a subset of the run, or calibration.

    Raises:
        DataError: no images, or images that were used. The model knows training images, validation images have
            chosen the file and count already, and test images must not choose anything.
        ImageError: an image cannot be decoded.
    """
    frames = find_frames(folder)
    if known := sorted({used[f.sha256] for f in frames if f.sha256 in used}):
        count = sum(f.sha256 in used for f in frames)
        raise DataError(
            f"{count} of the {len(frames)} images in --agreement-data {folder} were used for {', '.join(known)}. "
            "Give frames that the run has not seen."
        )
    pairs = pairs_with_equal([frame.patient for frame in frames])
    if not any(frame.patient for frame in frames):
        pairs += near_duplicate_pairs(np.stack([thumbnail(read_image(frame.path)) for frame in frames]))
    samples = tuple(
        Sample(frame.path, frame.path.relative_to(folder).as_posix(), 0, f"group {first}", frame.sha256, None)
        for frame, first in zip(frames, groups_from_pairs(len(frames), pairs), strict=True)
    )
    return AgreementFrames(Dataset({"": folder}, ("frame", "none"), samples))
