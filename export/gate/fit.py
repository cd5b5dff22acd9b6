"""The out-of-domain gate of a bundle: statistics of the training images, limits from the validation images.

The fit takes little time, since training has run the float backbones over the images already
(`train.features.cache`). It uses three kinds of features:

statistics   float features of the training images, and of the augmented copies that the run trained on;
distances    float features of the validation images, then the same images through each int8 file. An int8 file
             moves the distances: its limits are the float limits times the median ratio of its distances to the
             float ones;
views        validation images as other scanners and settings might show them (`export.gate.views`), through the
             quickest file of the bundle. Without them every picture of another scanner would be refused.

Test images only measure. `edge_runtime.model.gate` says how the device uses the result.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.bundle.contract import GATE_FILE, Artifact, Bundle
from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.files import write_bytes_atomic
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.gate import Gate, load_gate, standardise
from sonoedge.export.convert.splitting import SplitModel
from sonoedge.export.gate.features import Features, file_features, float_features, looked_at, spread, view_features
from sonoedge.export.gate.images import GateImages

DIRECTIONS = 64
"""Principal directions of the statistics, at most."""
RATIO_IMAGES = 48
"""Validation images on which an int8 file's distances are compared with the float ones, at most."""
BEYOND = 0.01
"""Share of the validation views that lies beyond the limit of refusal."""
SIGMAS = 2.0
"""The limit of flagging: mean plus two standard deviations of the validation images' log distance."""
FAR_SIGMAS = 3.0
"""The limit of refusal: at least the mean plus three standard deviations."""
MOST_SIGMAS = 6.0
"""Standard deviations at most, however few images there are."""
_FLOAT = frozenset({"fp32", "fp16"})
"""Precisions whose features differ from those of Keras by a thousandth at most: they need no run of their own."""
_SLOW = "w8a16"
_QUICKEST_RUNTIMES = ("openvino", "tflite", "onnx")

Distances = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """Distances above which an image is flagged (``warning``) and refused (``threshold``)."""

    warning: float
    threshold: float


@dataclass(frozen=True)
class FittedGate:
    """Statistics, limits by artifact, and facts about them for people (plain JSON types)."""

    gate: Gate
    limits: dict[str, Limits]
    facts: dict[str, Any]


def make_gate(
    bundle: Bundle,
    model: SplitModel,
    images: GateImages,
    *,
    cache: Path,
    seen: Mapping[str, Mapping[str, Features]] = MappingProxyType({}),
    progress: bool = False,
) -> FittedGate:
    """Fit statistics and limits for every artifact of a bundle; the files must lie in its folder.

    Args:
        bundle: its artifacts must be able to run here.
        model: the Keras model that it was made from.
        images: to fit the gate to.
        cache: folder of `train.features.cache`.
        seen: by artifact, features (C,) of images by their digest, if the artifact has been run on them already.
        progress: show bars.

    Raises:
        DataError: fewer than 4 training images.
        ImageError: an image cannot be decoded.
    """
    parts = (images.train, images.val, images.test)
    plain = float_features(model, [sample for part in parts for sample in part], cache, progress=progress)
    train, val, test = np.split(plain, np.cumsum([len(part) for part in parts])[:-1])
    if images.copies:
        train = float_features(model, images.train, cache, copies=images.copies, progress=progress)
    gate = fit_gate(train, bundle, looked_at(model))
    inside = distances(gate, val)
    some = spread(len(images.val), RATIO_IMAGES)
    chosen = [images.val[i] for i in some]
    ratios, classifiers = {}, {}
    for artifact in bundle.artifacts:
        ratios[artifact.name] = 1.0
        if artifact.precision not in _FLOAT:
            classifiers[artifact.name] = Classifier(bundle, artifact.name)
            known = seen.get(artifact.name, {})
            if all(sample.sha256 in known for sample in chosen):
                rows = np.stack([known[sample.sha256] for sample in chosen])
            else:
                rows = file_features(classifiers[artifact.name], [s.path for s in chosen], progress=progress)
            ratios[artifact.name] = float(np.median(distances(gate, rows) / inside[some]))
    quickest = quickest_artifact(bundle)
    classifier = classifiers.get(quickest.name) or Classifier(bundle, quickest.name)
    views = view_features(classifier, [sample.path for sample in images.val], progress=progress)
    limit = limits_from(inside, distances(gate, views) / ratios[quickest.name])
    limits = {name: Limits(limit.warning * ratio, limit.threshold * ratio) for name, ratio in ratios.items()}
    facts = {
        "source": images.source,
        "images": len(images.train),
        "copies": images.copies,
        "validation_images": len(images.val),
        "views": len(views),
        "views_through": quickest.name,
        "limits": {name: {key: round(x, 4) for key, x in asdict(own).items()} for name, own in limits.items()},
        "rates": {"validation": rates(inside, limit)}
        | ({"test": rates(distances(gate, test), limit)} if len(test) else {}),
    }
    return FittedGate(gate, limits, facts)


def rates(values: Distances, limits: Limits | Gate) -> dict[str, float | int]:
    """Number of images, and the shares (0–1) that are refused, and flagged without being refused.

    Args:
        values: distances (N,); NaN is refused.
        limits: of the artifact.
    """
    refused = ~(values <= limits.threshold)
    return {
        "images": len(values),
        "refused": round(float(refused.mean()), 4),
        "flagged": round(float((~refused & (values > limits.warning)).mean()), 4),
    }


def write_gate(bundle: Bundle, fitted: FittedGate) -> None:
    """Write ``domain.npz`` into the bundle's folder and read it back; SHA256SUMS must be written afterwards.

    Raises:
        BundleError: the gate does not fit the bundle.
    """
    write_bytes_atomic(bundle.path / GATE_FILE, pack(fitted.gate, fitted.limits))
    for name in fitted.limits:
        load_gate(bundle, name)


def quickest_artifact(bundle: Bundle) -> Artifact:
    """The artifact of the quickest kind. Kinds are ranked, not timed, so that an export can be repeated."""

    def slowness(artifact: Artifact) -> tuple[bool, bool, int]:
        runtime = _QUICKEST_RUNTIMES.index(artifact.runtime)
        return artifact.precision == _SLOW, artifact.precision in _FLOAT, runtime

    return min(bundle.artifacts, key=slowness)


def fit_gate(
    features: Features, bundle: Bundle, used: NDArray[np.bool_] | None = None, *, directions: int = DIRECTIONS
) -> Gate:
    """Probabilistic PCA of standardised features; the limits are not set yet (NaN).

    Args:
        features: of the training images, float32 (N, C).
        bundle: whose branches the gate names.
        used: channels to look at, bool (C,); the others count nothing. None: all.
        directions: at most.

    Raises:
        DataError: fewer than 4 images.
    """
    if len(features) < 4:
        raise DataError(f"The gate needs at least 4 training images. Received: {len(features)}.")
    used = np.ones(features.shape[1], bool) if used is None else used
    count, channels = len(features), int(used.sum())
    directions = min(directions, count // 2, channels - 1)
    x = features.astype(np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0)
    # If a channel hardly varies in training, the smallest change would raise an alarm: the others set a floor.
    inverse_std = used / np.maximum(std, max(0.05 * float(np.median(std[used])), 1e-6))
    z = standardise(x, mean, inverse_std)
    eigenvalues, components = principal_directions(z, directions)
    rest = float((z**2).sum()) / (count - 1) - float(eigenvalues.sum())
    noise = max(rest / (channels - directions), 1e-3)
    # The device divides by all channels: a distance is 1 on average over the channels that are used.
    scale = channels / len(used)
    return Gate(
        branches=tuple(branch.name for branch in bundle.branches),
        widths=tuple(branch.channels for branch in bundle.branches),
        mean=mean.astype(np.float32),
        inverse_std=inverse_std.astype(np.float32),
        components=components.astype(np.float16).astype(np.float32),
        variances=(scale * np.maximum(eigenvalues, noise)).astype(np.float32),
        noise=scale * noise,
        threshold=float("nan"),
        warning=float("nan"),
    )


def principal_directions(z: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest ``count`` eigenvalues (K,) of the covariance of z (N, C), and their directions (K, C).

    They come from the smaller of the two Gram matrices, in a tenth of the time that all singular vectors take.
    """
    from scipy.linalg import eigh

    rows, channels = z.shape
    wide = rows < channels
    gram = z @ z.T if wide else z.T @ z
    values, vectors = eigh(gram, subset_by_index=[len(gram) - count, len(gram) - 1])
    directions = (vectors.T @ z) if wide else vectors.T
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    return np.maximum(values[::-1], 0.0) / (rows - 1), directions[::-1]


def limits_from(plain: Distances, views: Distances) -> Limits:
    """Limits from the distances of the validation images (N,) and of other views of them (M,).

    For few images the standard deviations become prediction limits (Student's t), which are wider.
    """
    logs = np.log(np.maximum(plain, 1e-12))
    warning, far = (
        float(np.exp(logs.mean() + _wider(n, len(logs)) * logs.std(ddof=len(logs) > 1)))
        for n in (SIGMAS, FAR_SIGMAS)
    )
    threshold = max(float(np.quantile(views, 1 - BEYOND, method="higher")), far)
    return Limits(warning, threshold)


def _wider(sigmas: float, images: int) -> float:
    """Estimated standard deviations that one more image exceeds as rarely as ``sigmas`` known ones."""
    from scipy.stats import norm, t

    if images < 2:
        return MOST_SIGMAS
    return min(float(t.isf(norm.sf(sigmas), images - 1)) * float(np.sqrt(1 + 1 / images)), MOST_SIGMAS)


def pack(gate: Gate, limits: dict[str, Limits]) -> bytes:
    """The bytes of domain.npz; ``limits`` by artifact."""
    arrays: dict[str, Any] = {
        "branches": np.asarray(gate.branches),
        "mean": gate.mean,
        "inverse_std": gate.inverse_std,
        "components": gate.components.astype(np.float16),
        "variances": gate.variances,
        "noise": np.float32(gate.noise),
    }
    arrays |= {f"threshold.{name}": np.float32(limit.threshold) for name, limit in limits.items()}
    arrays |= {f"warning.{name}": np.float32(limit.warning) for name, limit in limits.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def distances(gate: Gate, features: Features) -> Distances:
    """Distances (N,) of the rows of features (N, C)."""
    return np.array([gate.distance(row) for row in features])
