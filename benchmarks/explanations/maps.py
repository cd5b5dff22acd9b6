"""Are the device's explanations those of the full model, and do they point at the lesion?

    fidelity       this module: every artifact's maps against GradientTape on the float Keras model
    sanity         this module: randomised head, mirrored images, both classes
    localisation   `benchmarks.explanations.localisation`: against lesion masks, chance and a centre prior
    faithfulness   `benchmarks.explanations.faithfulness`: deletion and insertion curves

`benchmarks.explanations.evaluation.evaluate` runs all of them and returns an `ExplanationReport`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sonoedge.benchmarks.explanations.eigencam import eigen_cam
from sonoedge.benchmarks.retention.explanations import bound_of
from sonoedge.benchmarks.retention.heatmaps import cosine
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.explain.methods.budget import rank_correlation
from sonoedge.edge_runtime.imaging.image import read_image, to_input
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.types import Float32Array
from sonoedge.train.data.dataset import Dataset

if TYPE_CHECKING:
    from sonoedge.export.convert.splitting import SplitModel

KERAS = "Keras GradientTape"
TOP_SHARE = 0.2
"""The share of cells that counts as the top region of a map."""


@dataclass(frozen=True)
class Maps:
    """The results of one model on N images.

    Attributes:
        logits: float64 (N,).
        positive: bool (N,), decisions at the model's own threshold.
        cams: fused maps, float32 (N, H, W), for the positive class, before the ReLU.
        branch_cams: the maps by branch, float32 (N, h, w).
        eigen: EigenCAM of the feature maps, float32 (N, H, W), >= 0; None for the Keras model.
        share_error: largest |sum of shares - logit| over the images; 0 for the Keras model.
    """

    logits: NDArray[np.float64]
    positive: NDArray[np.bool_]
    cams: Float32Array
    branch_cams: Mapping[str, Float32Array]
    eigen: Float32Array | None = None
    share_error: float = 0.0

    def of_class(self, positive: NDArray[np.bool_]) -> Float32Array:
        """Maps after the ReLU (N, H, W), of the positive class if ``positive`` (N,), else of the negative one."""
        return np.maximum(np.where(positive[:, None, None], self.cams, -self.cams), 0.0)


@dataclass(frozen=True)
class Fidelity:
    """One artifact's maps compared with GradientTape's, for the class that the full model decides.

    Figures are (median, 5th percentile, minimum) over images. ``cosine`` and ``top_iou`` leave out images on which
    a map is zero. ``signed`` is the cosine before the ReLU; ``spearman`` also compares maps before the ReLU.
    """

    artifact: str
    precision: str
    subset: str
    images: int
    compared: int
    cosine: tuple[float, float, float]
    signed: tuple[float, float, float]
    spearman: tuple[float, float, float]
    top_iou: tuple[float, float, float]
    share_error: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the median cosine reaches the bound; False if nothing could be compared."""
        return self.cosine[0] >= self.bound


@dataclass(frozen=True)
class Sanity:
    """Checks of maps that need no mask; cosines are medians over the images, of maps before the ReLU.

    Attributes:
        randomised_head: cosine of the Keras model's maps with and without a randomised head; None without model.
        mirrored: cosine with the maps of the mirrored images, mirrored back. Reported, not required.
        overlap: largest product of the two classes' maps at one cell; must be 0.
        zero_maps: number of images on which nothing speaks for the predicted class.
    """

    randomised_head: float | None
    mirrored: float
    overlap: float
    zero_maps: int


def artifact_maps(
    classifier: Classifier, dataset: Dataset, *, progress: bool = False, mirror: bool = False
) -> Maps:
    """Maps of an artifact, as the device computes them; with ``mirror`` of mirrored images, mirrored back."""
    rows, branches = [], [branch.name for branch in classifier.bundle.branches]
    for image in _images(dataset, f"{classifier.artifact.name}{' mirrored' if mirror else ''}", progress):
        model_input = to_input(image, classifier.input_size)
        features = classifier.backbone.run({"image": model_input[:, :, ::-1] if mirror else model_input})
        outputs = classifier.head.run(features)
        shares = sum(outputs[f"share_{name}"].item() for name in [*branches, "bias"])
        rows.append((outputs, eigen_cam(features), abs(shares - outputs["logit"].item())))
    turn = (lambda maps: maps[:, :, ::-1]) if mirror else (lambda maps: maps)

    def column(name: str) -> Float32Array:
        return np.concatenate([outputs[name] for outputs, _, _ in rows])

    return Maps(
        logits=column("logit")[:, 0].astype(np.float64),
        positive=column("probability")[:, 0] >= classifier.artifact.threshold,
        cams=turn(column("cam")),
        branch_cams={name: turn(column(f"cam_{name}")) for name in branches},
        eigen=turn(np.stack([eigen for _, eigen, _ in rows])),
        share_error=max(error for _, _, error in rows),
    )


@dataclass(frozen=True)
class Truth:
    """The full Keras model on N images: maps by GradientTape, with its own head and with a randomised one."""

    maps: Maps
    randomised: Maps


def keras_maps(model: SplitModel, threshold: float, dataset: Dataset, *, progress: bool = False) -> Truth:
    """Run the Keras model and differentiate it; the backbone runs once for each image."""
    from sonoedge.benchmarks.measure.gradient_truth import features, grad_cam, randomised_tail

    models = (model, randomised_tail(model))
    found: tuple[list[Any], list[Any]] = ([], [])
    for image in _images(dataset, KERAS, progress):
        maps = features(model, to_input(image, model.input_size))
        for one, rows in zip(models, found, strict=True):
            rows.append(grad_cam(one, maps))
    boundary = float(np.log(threshold) - np.log1p(-threshold)) if 0 < threshold < 1 else 0.0
    true, random = (_stack(rows, boundary) for rows in found)
    return Truth(true, random)


def _stack(rows: Sequence[Any], boundary: float) -> Maps:
    logits = np.array([row.logit for row in rows])
    branches = {name: np.stack([row.branch_cams[name] for row in rows]) for name in rows[0].branch_cams}
    return Maps(logits, logits >= boundary, np.stack([row.cam for row in rows]), branches)


def fidelity(name: str, precision: str, subset: str, maps: Maps, truth: Maps) -> Fidelity:
    """Compare the maps of artifact ``name`` with the truth, image by image."""
    ours, wanted = maps.of_class(truth.positive), truth.of_class(truth.positive)
    both = np.array([bool(a.any() and b.any()) for a, b in zip(ours, wanted, strict=True)])
    pairs = [(a, b) for a, b, known in zip(ours, wanted, both, strict=True) if known]
    return Fidelity(
        artifact=name,
        precision=precision,
        subset=subset,
        images=len(both),
        compared=len(pairs),
        cosine=_spread([cosine(a, b) for a, b in pairs]),
        signed=_spread([cosine(a, b) for a, b in zip(maps.cams, truth.cams, strict=True)]),
        spearman=_spread([rank_correlation(a, b) for a, b in zip(maps.cams, truth.cams, strict=True)]),
        top_iou=_spread([top_region_iou(a, b) for a, b in pairs]),
        share_error=maps.share_error,
        bound=bound_of(precision),
    )


def top_region_iou(a: Float32Array, b: Float32Array, share: float = TOP_SHARE) -> float:
    """Intersection over union of the hottest cells of two maps, ``share`` of all cells of each."""
    count = max(1, round(share * a.size))
    first, second = (set(np.argsort(-m.ravel(), kind="stable")[:count].tolist()) for m in (a, b))
    return len(first & second) / len(first | second)


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    known = np.array([value for value in values if not np.isnan(value)])
    if not known.size:
        return (float("nan"),) * 3
    return float(np.median(known)), float(np.percentile(known, 5)), float(known.min())


def sanity(maps: Maps, mirrored: Maps, truth: Truth | None) -> Sanity:
    """Compute the checks of `Sanity`."""
    benign, malignant = maps.of_class(np.zeros_like(maps.positive)), maps.of_class(np.ones_like(maps.positive))
    predicted = maps.of_class(maps.positive)
    return Sanity(
        None if truth is None else _median_cosine(truth.randomised.cams, truth.maps.cams),
        _median_cosine(mirrored.cams, maps.cams),
        float((benign * malignant).max()),
        int(sum(not cam.any() for cam in predicted)),
    )


def known_subset(bundle: Bundle, dataset: Dataset, name: str) -> Dataset | None:
    """The images of subset ``name`` (``train``, ``val``, ``test``) of the bundle's training data; None if none."""
    training = bundle.provenance.get("training") or {}
    digests = set((training.get("subsets") or {}).get(name, ()))
    digits = len(next(iter(digests), ""))
    chosen = [i for i, sample in enumerate(dataset.samples) if digits and sample.sha256[:digits] in digests]
    return dataset.select(chosen) if chosen else None


def _median_cosine(a: Float32Array, b: Float32Array) -> float:
    return _spread([cosine(x, y) for x, y in zip(a, b, strict=True)])[0]


def _images(dataset: Dataset, what: str, progress: bool) -> Iterator[NDArray[np.uint8]]:
    for sample in tqdm(dataset.samples, desc=what, unit="img", disable=not progress):
        yield read_image(sample.path)
