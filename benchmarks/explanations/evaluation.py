"""The whole evaluation of explanations, from a bundle and images to an `ExplanationReport` and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sonoedge.benchmarks.explanations.faithfulness import Faithfulness, faithfulness
from sonoedge.benchmarks.explanations.figures import draw_panels, spread_choice
from sonoedge.benchmarks.explanations.localisation import (
    CENTRE,
    THRESHOLDS,
    Localisation,
    Place,
    best_threshold,
    localisations,
    places,
    priors,
    with_masks,
)
from sonoedge.benchmarks.explanations.maps import (
    Fidelity,
    Maps,
    Sanity,
    artifact_maps,
    fidelity,
    keras_maps,
    known_subset,
    sanity,
)
from sonoedge.benchmarks.explanations.report import ExplanationReport
from sonoedge.benchmarks.explanations.timing import explanation_costs
from sonoedge.benchmarks.measure.environment import machine_record
from sonoedge.edge_runtime.backends import is_available
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.bundle.trust import load_trusted
from sonoedge.edge_runtime.errors import MissingExtraError, UsageError
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.types import Float32Array
from sonoedge.train.data.dataset import Dataset, load_dataset
from sonoedge.train.data.split import Split, subset_of
from sonoedge.train.evaluation.run_folder import open_run

if TYPE_CHECKING:
    from sonoedge.export.convert.splitting import SplitModel

EIGENCAM = "EigenCAM"
_HALF = int(abs(THRESHOLDS - 0.5).argmin())


@dataclass(frozen=True)
class ExplanationRequest:
    """What to evaluate; see ``sonoedge benchmark-explain --help``."""

    bundle: Path
    data: Path
    out: Path
    run: Path | None = None
    external: Path | None = None
    artifacts: Sequence[str] = ()
    compare: Sequence[Path] = ()
    limit: int = 0
    faithfulness_images: int = 24
    timing_runs: int = 20
    panels: int = 5
    threads: int | None = None
    progress: bool = False
    notes: list[str] = field(default_factory=list)


def evaluate(request: ExplanationRequest) -> ExplanationReport:
    """Run the evaluation; pictures go to ``request.out``.

    Raises:
        BundleError, DataError, ModelError, UsageError: an input cannot be read, or inputs do not fit each other.
    """
    bundle = load_trusted(request.bundle)
    classifiers = _open(bundle, request)
    first = next(iter(classifiers.values()))
    dataset = load_dataset(request.data, classes=bundle.labels)
    test, val = known_subset(bundle, dataset, "test"), known_subset(bundle, dataset, "val")
    sets = {"test": limited(test if test is not None else dataset, request.limit)}
    if test is None:
        request.notes.append("The bundle knows none of these images: all are taken, as external data.")
    if request.external is not None:
        sets["external"] = limited(load_dataset(request.external, classes=bundle.labels), request.limit)
    val = None if val is None else limited(val, request.limit)
    val_maps = None if val is None else artifact_maps(first, val, progress=request.progress)
    model, threshold = _keras(request.run)
    kept: list[Fidelity] = []
    located: list[Localisation] = []
    checks: Sanity | None = None
    faithful: list[Faithfulness] = []
    for name, images in sets.items():
        maps = {n: artifact_maps(c, images, progress=request.progress) for n, c in classifiers.items()}
        truth = _truth(model, threshold, images, request)
        own = maps[first.artifact.name]
        if truth is not None:
            kept += [fidelity(n, c.artifact.precision, name, maps[n], truth.maps) for n, c in classifiers.items()]
        located += _localise(name, images, own, val, val_maps, request)
        if name == "test":
            mirrored = artifact_maps(first, images, progress=request.progress, mirror=True)
            checks = sanity(own, mirrored, truth)
            faithful = _faithful(first, images, own, request)
            _panels(images, own, first.artifact.name, bundle, request)
    frame = read_image(sets["test"].samples[0].path)
    costs, latency = (
        explanation_costs(classifiers, model, frame, runs=request.timing_runs) if request.timing_runs else ([], {})
    )
    return ExplanationReport(
        bundle=bundle.name,
        weights=(bundle.provenance.get("training") or {}).get("weights") or {},
        machine=machine_record(request.threads),
        notes=[
            *(f"{name}: {len(images)} images of {images.name}" for name, images in sets.items()),
            *request.notes,
        ],
        fidelity=kept,
        localisation=located,
        models=_compare(sets["test"], val, request) if request.compare else [],
        faithfulness=faithful,
        sanity=checks,
        costs=costs,
        latency=latency,
    )


def limited(dataset: Dataset, limit: int) -> Dataset:
    """At most about ``limit`` images, 0 for all: the first by digest, classes in proportion."""
    if not limit or limit >= len(dataset):
        return dataset
    order = sorted(range(len(dataset)), key=lambda i: dataset.samples[i].sha256)
    chosen: list[int] = []
    for k in range(len(dataset.labels)):
        own = [i for i in order if dataset.y[i] == k]
        chosen += own[: max(1, round(limit * len(own) / len(dataset)))]
    return dataset.select(sorted(chosen))


def _open(bundle: Bundle, request: ExplanationRequest) -> dict[str, Classifier]:

    names = request.artifacts or [a.name for a in bundle.artifacts if is_available(a.runtime)]
    if not names:
        raise MissingExtraError("An interpreter for this bundle", "litert")
    return {name: Classifier(bundle, name, threads=request.threads) for name in names}


def _keras(run: Path | None) -> tuple[SplitModel | None, float]:
    if run is None:
        return None, 0.5
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.export.convert.splitting import split_model
        from sonoedge.train.evaluation.run_folder import open_run
        from sonoedge.train.models.fusion import load_model

        return split_model(load_model(run)), open_run(run).threshold


def _truth(model: SplitModel | None, threshold: float, images: Dataset, request: ExplanationRequest):  # type: ignore[no-untyped-def]

    return None if model is None else keras_maps(model, threshold, images, progress=request.progress)


def _localise(
    name: str, images: Dataset, maps: Maps, val: Dataset | None, val_maps: Maps | None, request: ExplanationRequest
) -> list[Localisation]:
    """Localise all maps of `_views` on the images with masks."""
    masked = with_masks(images)
    if len(masked) < len(images):
        request.notes.append(f"{name}: {len(images) - len(masked)} images without a usable mask are not localised.")
    part = images.select(masked)
    tuned: dict[str, int] = {}
    if val is not None and val_maps is not None:
        tuned = {method: _best(cams, val) for method, cams in _views(val_maps, val).items()}
    elif name == "test":
        request.notes.append("No validation images: the IoU threshold is half the peak, not a chosen one.")
    methods: dict[str, tuple[list[Place], int]] = {
        method: (places(found[masked], part), tuned.get(method, _HALF))
        for method, found in _views(maps, images).items()
    }
    return localisations(methods, part, name)


def _views(maps: Maps, images: Dataset) -> dict[str, Float32Array]:
    """Maps >= 0 (N, h, w) by name: predicted class, positive class, each branch, EigenCAM, centre prior."""
    views = {"Grad-CAM, predicted class": maps.of_class(maps.positive)}
    views[f"Grad-CAM, {images.labels[-1]}"] = maps.of_class(np.ones_like(maps.positive))
    if len(maps.branch_cams) > 1:
        for branch, cams in maps.branch_cams.items():
            signed = np.where(maps.positive[:, None, None], cams, -cams)
            views[f"Grad-CAM, predicted class, {branch} alone"] = np.maximum(signed, 0.0)
    if maps.eigen is not None:
        views[EIGENCAM] = maps.eigen
    views[CENTRE] = priors(images, maps.cams.shape[1:])
    return views


def _faithful(
    classifier: Classifier, images: Dataset, maps: Maps, request: ExplanationRequest
) -> list[Faithfulness]:

    if not request.faithfulness_images:
        return []
    names = {sample.relative_path for sample in limited(images, request.faithfulness_images).samples}
    chosen = np.array([i for i, sample in enumerate(images.samples) if sample.relative_path in names])
    positive = maps.positive[chosen]
    signed = np.where(positive[:, None, None], maps.cams[chosen], -maps.cams[chosen])
    orders = {"Grad-CAM": signed, CENTRE: priors(images.select(chosen), signed.shape[1:])}
    if maps.eigen is not None:
        orders[EIGENCAM] = maps.eigen[chosen]
    orders["random cells"] = np.random.default_rng(0).random(signed.shape).astype(np.float32)
    return faithfulness(classifier, images.select(chosen), orders, positive, progress=request.progress)


def _panels(images: Dataset, maps: Maps, artifact: str, bundle: Bundle, request: ExplanationRequest) -> None:

    if not request.panels:
        return
    chosen = np.array(spread_choice(images, request.panels))
    sign = np.where(maps.positive[chosen], 1.0, -1.0)[:, None, None]
    columns: dict[str, Float32Array] = {"fused": np.maximum(sign * maps.cams[chosen], 0)}
    if len(maps.branch_cams) > 1:
        columns |= {f"{name} alone": np.maximum(sign * cams[chosen], 0) for name, cams in maps.branch_cams.items()}
    if maps.eigen is not None:
        columns[EIGENCAM] = maps.eigen[chosen]
    title = f"Grad-CAM of the predicted class, {artifact}; each map scaled to its own peak"
    captions = _captions(images, maps.positive, chosen, bundle.labels)
    draw_panels(images.select(chosen), columns, captions, request.out / "panels.png", title=title)


def _captions(
    images: Dataset, positive: NDArray[np.bool_], chosen: NDArray[np.int64], labels: Sequence[str]
) -> list[str]:
    lines = []
    for i in chosen:
        truth, said = labels[images.y[i]], labels[int(positive[i])]
        lines.append(f"{Path(images.samples[i].relative_path).stem}\n{truth}, predicted {said}")
    return lines


def _compare(images: Dataset, val: Dataset | None, request: ExplanationRequest) -> list[Localisation]:
    """Each run's Keras model on the same test images: the paper's Table IV, and a picture as its Figs. 8–10."""
    masked = with_masks(images)
    part = images.select(masked)
    chosen = np.array(spread_choice(images, request.panels))
    methods: dict[str, tuple[list[Place], int]] = {}
    columns: dict[str, Float32Array] = {}
    captions: list[str] = [
        f"{Path(images.samples[i].relative_path).stem}\n{images.labels[images.y[i]]}" for i in chosen
    ]
    for path in request.compare:
        opened = open_run(path)
        name = opened.card.settings.backbones.replace(",", " + ")
        _require_unseen(images, opened.split, path)
        model, threshold = _keras(path)
        assert model is not None
        found = keras_maps(model, threshold, images, progress=request.progress).maps
        tuned = None if val is None else keras_maps(model, threshold, val, progress=request.progress).maps
        methods[name] = (places(found.of_class(found.positive)[masked], part), _tuned(tuned, val))
        if CENTRE not in methods:
            prior = priors(images, found.cams.shape[1:])
            index = _HALF if val is None else _best(priors(val, found.cams.shape[1:]), val)
            methods[CENTRE] = (places(prior[masked], part), index)
        columns[name] = found.of_class(found.positive)[chosen]
        captions = [
            f"{line}\n{name}: {images.labels[int(found.positive[i])]}"
            for line, i in zip(captions, chosen, strict=True)
        ]
    if request.panels:
        title = "Grad-CAM of each model's predicted class (Keras, GradientTape); each map scaled to its own peak"
        draw_panels(images.select(chosen), columns, captions, request.out / "models.png", title=title)
    return localisations(methods, part, "test")


def _tuned(maps: Maps | None, val: Dataset | None) -> int:
    """Index of the best IoU threshold on validation images, for the predicted class; half the peak without them."""
    return _HALF if maps is None or val is None else _best(maps.of_class(maps.positive), val)


def _best(cams: Float32Array, val: Dataset) -> int:
    masked = with_masks(val)
    return best_threshold(places(cams[masked], val.select(masked)))


def _require_unseen(images: Dataset, split: Split, path: Path) -> None:

    subsets: Mapping[str, str] = subset_of(split)
    seen = sum(subsets.get(sample.sha256, "test") != "test" for sample in images.samples)
    if seen:
        raise UsageError(
            f"{path} was trained or tuned on {seen} of the test images: train it with the same --split."
        )
