"""Do an artifact's decisions agree with float32's on unlabelled frames? Flips need no labels: any frames will do.

The reference is the bundle's float32 file of the same runtime, which runs beside the artifact. If the bundle has no
such file, the reference is ``agreement.jsonl``, which ``sonoedge export --agreement-data`` writes. It has one line
for each frame and runtime, and no picture, name or patient:

    {"sha256": "…", "group": 17, "runtime": "tflite", "logit": -2.13, "positive": false}
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.bundle.contract import Artifact, Bundle
from sonoedge.edge_runtime.errors import BundleError, DataError, UsageError
from sonoedge.edge_runtime.files import sha256_file
from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.edge_runtime.model.cascade import logit_threshold
from sonoedge.edge_runtime.model.classifier import Classifier, preprocess_file
from sonoedge.edge_runtime.proportion import GroupedCount

ANSWERS = "agreement.jsonl"
FLOAT = "fp32"
GROUP_COLUMNS = ("patient", "case", "group")


@dataclass(frozen=True)
class Frame:
    """One unlabelled image; ``patient`` comes from images.csv, None if that names none."""

    path: Path
    sha256: str
    patient: str | None


@dataclass(frozen=True)
class StoredAnswer:
    """What the float32 model said about a frame on the workstation; ``group`` stands for its patient."""

    group: str
    logit: float
    positive: bool


@dataclass(frozen=True)
class Agreement:
    """Decisions of an artifact that differ from those of the reference.

    Attributes:
        artifact: its name.
        reference: name of the float32 artifact, or ``agreement.jsonl``.
        count: flips, counted by patient.
        left_out: frames that ``agreement.jsonl`` does not know.
    """

    artifact: str
    reference: str
    count: GroupedCount
    left_out: int

    def to_json(self, limit: float) -> dict[str, Any]:
        """A JSON object; ``limit`` is the largest share of flips allowed, 0–1."""
        found = self.count.interval()
        return {
            "artifact": self.artifact,
            "reference": self.reference,
            "images": self.count.images,
            "groups": self.count.groups,
            "flipped": self.count.events,
            "flips": [round(value, 6) for value in (found.value, found.low, found.high)],
            "verdict": self.count.verdict(limit),
            "groups_missing": self.count.missing(limit),
            "left_out": self.left_out,
        }


def find_frames(folder: Path) -> list[Frame]:
    """All images of a folder; of files with equal content only the first.

    The patients come from images.csv: its column ``patient``, ``case`` or ``group``.

    Raises:
        DataError: there is no folder or no image, or images.csv is unreadable or lacks the column ``image``.
    """
    if not folder.is_dir():
        raise DataError(f"No such folder of frames: {folder}")
    patients = _patients(folder)
    frames: dict[str, Frame] = {}
    for path in find_images(folder):
        frame = Frame(path, sha256_file(path), patients.get(path.relative_to(folder).as_posix()))
        frames.setdefault(frame.sha256, frame)
    if not frames:
        raise DataError(f"No images in the folder of frames {folder}.")
    return list(frames.values())


def groups_of(frames: Sequence[Frame]) -> list[str]:
    """The group of every frame: its patient, or the frame itself if its patient is unknown."""
    return [f"patient {f.patient}" if f.patient else f"frame {f.sha256}" for f in frames]


def measure_agreement(
    bundle: Bundle, artifact: Artifact, frames: Sequence[Frame], *, threads: int | None = None
) -> Agreement:
    """Run an artifact over frames and count the decisions that differ from float32's.

    Raises:
        UsageError: the bundle has neither a float32 file nor stored answers of this runtime.
        DataError: no frame is among the stored answers.
        ImageError: a frame cannot be decoded.
    """
    size = (bundle.input.height, bundle.input.width)
    own = Classifier(bundle, artifact.name, threads=threads)
    cut = logit_threshold(artifact.threshold)
    exact = next((a for a in bundle.artifacts if (a.runtime, a.precision) == (artifact.runtime, FLOAT)), None)
    if exact is not None:
        other, other_cut = Classifier(bundle, exact.name, threads=threads), logit_threshold(exact.threshold)
        inputs = (preprocess_file(frame.path, size) for frame in frames)
        flipped = [(own.logit(x) >= cut) != (other.logit(x) >= other_cut) for x in inputs]
        return Agreement(artifact.name, exact.name, GroupedCount.of(flipped, groups_of(frames)), 0)
    answers = {
        sha: answer for (runtime, sha), answer in read_answers(bundle).items() if runtime == artifact.runtime
    }
    if not answers:
        raise UsageError(
            f"Nothing to compare {artifact.name} with: the bundle has no float32 file for {artifact.runtime} "
            f"and no {ANSWERS}. Export {artifact.runtime}-fp32, too, or export with --agreement-data DIR."
        )
    known = [frame for frame in frames if frame.sha256 in answers]
    if not known:
        raise DataError(f"None of the {len(frames)} frames is in {ANSWERS}: give the frames of the export.")
    flipped = [(own.logit(preprocess_file(f.path, size)) >= cut) != answers[f.sha256].positive for f in known]
    count = GroupedCount.of(flipped, [answers[f.sha256].group for f in known])
    return Agreement(artifact.name, ANSWERS, count, len(frames) - len(known))


def read_answers(bundle: Bundle) -> Mapping[tuple[str, str], StoredAnswer]:
    """Stored answers by (runtime, SHA-256); empty if the bundle has none.

    Raises:
        BundleError: a line has not the form that this module describes.
    """
    path = bundle.path / ANSWERS
    if not path.is_file():
        return {}
    answers: dict[tuple[str, str], StoredAnswer] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            body = json.loads(line)
            key = (str(body["runtime"]), str(body["sha256"]))
            answers[key] = StoredAnswer(str(body["group"]), float(body["logit"]), bool(body["positive"]))
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{ANSWERS}, line {number}, is no answer: {error}") from error
    return answers


def _patients(folder: Path) -> dict[str, str]:
    """Patient by relative path, from images.csv."""
    table = folder / "images.csv"
    if not table.is_file():
        return {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Cannot read {table}: {error}") from error
    if rows and "image" not in rows[0]:
        raise DataError(f"{table} lacks the column: image.")
    column = next((name for name in GROUP_COLUMNS if rows and name in rows[0]), None)
    return {row["image"].strip(): row[column].strip() for row in rows if column and row[column] and row["image"]}
