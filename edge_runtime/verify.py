"""Replay of golden.npz: does this machine compute what the workstation computed?

golden.npz holds, for N generated images (never patients'):

    image_<i>               uint8 (H_i, W_i, 3), several original sizes
    reference_logit         float32 (N,): the full Keras model
    reference_cam           float32 (N, h, w): its fused map, before the ReLU
    <artifact>.logit        float32 (N,): what the artifact gave when it was exported
    <artifact>.cam          float32 (N, h, w)
    <artifact>.tolerance    float32 (3,): largest |logit - own|, |logit - reference|, relative error of the map

Two tolerances, because two things can go wrong: the first catches wrong preprocessing, wrong dtypes and broken
kernels here, the second a bundle whose files do not belong to its model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle import GOLDEN, Bundle
from edge_runtime.classifier import Classifier
from edge_runtime.errors import BundleError, MissingExtraError

Golden = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Replay:
    """The result for one artifact; ``skipped`` holds the reason when its interpreter is not installed.

    Attributes:
        replay_error: largest absolute difference in the logit from the artifact's own results at export.
        reference_error: the same from the full Keras model.
        cam_error: largest relative (L2) difference of the fused map from the artifact's own.
        tolerance: for the three of them.
    """

    artifact: str
    replay_error: float
    reference_error: float
    cam_error: float
    tolerance: tuple[float, float, float]
    skipped: str = ""

    @property
    def passed(self) -> bool:
        """All three within tolerance; a NaN is not."""
        errors = (self.replay_error, self.reference_error, self.cam_error)
        return not self.skipped and all(e <= t for e, t in zip(errors, self.tolerance, strict=True))


def load_golden(bundle: Bundle) -> Golden:
    """The arrays of golden.npz; `BundleError` where it is malformed."""
    try:
        with np.load(bundle.path / GOLDEN, allow_pickle=False) as archive:
            golden = {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise BundleError(f"{GOLDEN} cannot be read: {error}") from error
    needed = ["reference_logit", "reference_cam"]
    needed += [f"{a.name}.{key}" for a in bundle.artifacts for key in ("logit", "cam", "tolerance")]
    if missing := [name for name in needed if name not in golden]:
        raise BundleError(f"{GOLDEN} lacks {', '.join(missing)}.")
    return golden


def golden_images(golden: Golden) -> list[NDArray[np.uint8]]:
    """The images of golden.npz in order."""
    return [golden[f"image_{i}"] for i in range(len(golden["reference_logit"]))]


def replay(bundle: Bundle, artifact: str, golden: Golden, *, threads: int | None = None) -> Replay:
    """Run one artifact over the golden images and compare."""
    first, second, third = (float(value) for value in golden[f"{artifact}.tolerance"])
    tolerance = (first, second, third)
    try:
        classifier = Classifier(bundle, artifact, threads=threads)
    except MissingExtraError as error:
        return Replay(artifact, np.nan, np.nan, np.nan, tolerance, skipped=str(error))
    logits, cams = run_golden(classifier, golden_images(golden))
    return Replay(
        artifact,
        replay_error=float(np.abs(logits - golden[f"{artifact}.logit"]).max()),
        reference_error=float(np.abs(logits - golden["reference_logit"]).max()),
        cam_error=relative_error(cams, golden[f"{artifact}.cam"]),
        tolerance=tolerance,
    )


def run_golden(
    classifier: Classifier, images: list[NDArray[np.uint8]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (N,) and fused maps (N, h, w) of images."""
    results = [classifier.explain_raw(image) for image in images]
    logits = np.array([prediction.logit for prediction, _ in results], np.float32)
    return logits, np.stack([outputs["cam"][0] for _, outputs in results])


def relative_error(maps: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Largest ||map - wanted|| / ||wanted|| over N maps (N, h, w)."""
    axes = (1, 2)
    scale = np.maximum(np.linalg.norm(wanted, axis=axes), 1e-6)
    return float((np.linalg.norm(maps - wanted, axis=axes) / scale).max())
