"""Replay of golden.npz: does this machine compute what the workstation computed?

golden.npz holds, for N generated images (never images of patients):

    image_<i>               uint8 (H_i, W_i, 3), several original sizes
    reference_logit         float32 (N,): the full Keras model
    reference_cam           float32 (N, h, w): its fused map, before the ReLU
    <artifact>.logit        float32 (N,): the artifact's own results at export
    <artifact>.cam          float32 (N, h, w)
    <artifact>.tolerance    float32 (3,): largest |logit - own|, |logit - reference|, relative error of the map

The logit has two tolerances. The first finds wrong preprocessing, wrong dtypes and broken kernels on this machine;
the second finds a bundle whose files do not belong to its model. Decisions are compared, too: if the artifact's own
logit lies further from the threshold than the first tolerance, the decision must be the same.
"""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.bundle.contract import GOLDEN, Bundle
from sonoedge.edge_runtime.errors import BundleError, MissingExtraError
from sonoedge.edge_runtime.model.classifier import Classifier

Golden = Mapping[str, NDArray[Any]]
MAX_GOLDEN_BYTES = 256_000_000
_PROBABILITY_ERROR = 1e-5
"""Interpreters approximate the sigmoid, and near 1 many logits share one float32 probability."""
# What zipfile, zlib and NumPy's header parser raise on damaged archives.
_NPZ_ERRORS = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Replay:
    """The result for one artifact.

    Attributes:
        replay_error: largest absolute difference in the logit from the artifact's own results at export.
        reference_error: largest absolute difference in the logit from the full Keras model.
        cam_error: largest relative (L2) difference of the fused map from the artifact's own map at export.
        tolerance: the limits of the three errors, in this order.
        decisions: golden images whose decision was compared.
        changed: how many of these decisions differ.
        skipped: the reason, if the interpreter is not installed.
        failure: the reason, if the artifact could not be run.
    """

    artifact: str
    replay_error: float
    reference_error: float
    cam_error: float
    tolerance: tuple[float, float, float]
    decisions: int = 0
    changed: int = 0
    skipped: str = ""
    failure: str = ""

    @property
    def passed(self) -> bool:
        """Whether all three errors are within tolerance (NaN is not) and no decision changed."""
        errors = (self.replay_error, self.reference_error, self.cam_error)
        return not (self.skipped or self.failure or self.changed) and all(
            e <= t for e, t in zip(errors, self.tolerance, strict=True)
        )


def load_golden(bundle: Bundle) -> Golden:
    """The arrays of golden.npz.

    Raises:
        BundleError: the file is missing or malformed, too large when unpacked, or holds other arrays than this
            module describes.
    """
    try:
        data = (bundle.path / GOLDEN).read_bytes()
    except OSError as error:
        raise BundleError(f"{GOLDEN} cannot be read: {error.strerror or error}") from error
    return parse_golden(data, [artifact.name for artifact in bundle.artifacts])


def parse_golden(data: bytes, artifacts: Sequence[str]) -> Golden:
    """`load_golden` from the bytes of golden.npz; ``artifacts`` are the names that it must hold."""
    try:
        golden = _read_npz(data)
    except _NPZ_ERRORS as error:
        raise BundleError(f"{GOLDEN} cannot be read: {error}") from error
    needed = ["reference_logit", "reference_cam"]
    needed += [f"{name}.{key}" for name in artifacts for key in ("logit", "cam", "tolerance")]
    if missing := [name for name in needed if name not in golden]:
        raise BundleError(f"{GOLDEN} lacks {', '.join(missing)}.")
    logits, cams = golden["reference_logit"].shape, golden["reference_cam"].shape
    if len(logits) != 1 or not logits[0] or len(cams) != 3 or cams[0] != logits[0] or 0 in cams:
        raise BundleError(
            f"{GOLDEN}: reference_logit must be (N,), reference_cam (N, h, w). Received: {logits}, {cams}."
        )
    shapes = {"logit": logits, "cam": cams, "tolerance": (3,)}
    for name in needed:
        shape = {"reference_logit": logits, "reference_cam": cams}.get(name) or shapes[name.rpartition(".")[2]]
        if golden[name].shape != shape or golden[name].dtype != np.float32:
            raise BundleError(
                f"{GOLDEN}: {name} must be float32 {shape}. Received: {golden[name].dtype} {golden[name].shape}."
            )
    for index in range(logits[0]):
        image = golden.get(f"image_{index}")
        if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise BundleError(f"{GOLDEN}: image_{index} is not a uint8 image (height, width, 3).")
    return golden


def _read_npz(data: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_GOLDEN_BYTES:
        raise BundleError(f"{GOLDEN} would unpack to {unpacked:,} bytes; at most {MAX_GOLDEN_BYTES:,} are read.")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive_of_arrays:
        arrays = {name: archive_of_arrays[name] for name in archive_of_arrays.files}
    # A member that is no .npy file comes back as its bytes.
    if foreign := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise BundleError(f"{GOLDEN}: {foreign[0]} is not an array.")
    return arrays


def golden_images(golden: Golden) -> list[NDArray[np.uint8]]:
    """The images of golden.npz in order."""
    return [golden[f"image_{i}"] for i in range(len(golden["reference_logit"]))]


def replay(bundle: Bundle, artifact: str, golden: Golden, *, threads: int | None = None) -> Replay:
    """Run one artifact over the golden images and compare; a missing interpreter becomes ``Replay.skipped``."""
    first, second, third = (float(value) for value in golden[f"{artifact}.tolerance"])
    tolerance = (first, second, third)
    try:
        classifier = Classifier(bundle, artifact, threads=threads)
    except MissingExtraError as error:
        return Replay(artifact, np.nan, np.nan, np.nan, tolerance, skipped=str(error))
    own = golden[f"{artifact}.logit"].astype(np.float64)
    logits, cams, labels = _run(classifier, golden_images(golden))
    threshold = classifier.artifact.threshold
    low, high = (_sigmoid(own + shift) for shift in (-first, first))
    surely, never = low - _PROBABILITY_ERROR >= threshold, high + _PROBABILITY_ERROR < threshold
    decided = np.array([label == bundle.positive_label for label in labels])
    return Replay(
        artifact,
        replay_error=float(np.abs(logits - golden[f"{artifact}.logit"]).max()),
        reference_error=float(np.abs(logits - golden["reference_logit"]).max()),
        cam_error=relative_error(cams, golden[f"{artifact}.cam"]),
        tolerance=tolerance,
        decisions=int((surely | never).sum()),
        changed=int((surely & ~decided | never & decided).sum()),
    )


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))


def run_golden(
    classifier: Classifier, images: list[NDArray[np.uint8]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits float32 (N,) and fused maps float32 (N, h, w) of N images."""
    logits, cams, _ = _run(classifier, images)
    return logits, cams


def _run(
    classifier: Classifier, images: list[NDArray[np.uint8]]
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    """What `run_golden` returns, and the label of each image."""
    results = [classifier.explain_raw(image) for image in images]
    logits = np.array([prediction.logit for prediction, _ in results], np.float32)
    cams = np.stack([outputs["cam"][0] for _, outputs in results])
    return logits, cams, [prediction.label for prediction, _ in results]


def relative_error(maps: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Largest ||map - wanted|| / ||wanted|| over N maps (N, h, w)."""
    axes = (1, 2)
    scale = np.maximum(np.linalg.norm(wanted, axis=axes), 1e-6)
    return float((np.linalg.norm(maps - wanted, axis=axes) / scale).max())
