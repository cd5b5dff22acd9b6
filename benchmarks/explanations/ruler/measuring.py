"""Measure all methods on a data set, one journal step an image, with the cost said first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sonoedge.benchmarks.explanations.figures import draw_panels, spread_choice
from sonoedge.benchmarks.explanations.ruler.comparison import MethodComparison, compared
from sonoedge.benchmarks.explanations.ruler.controls import CONTROLS
from sonoedge.benchmarks.explanations.ruler.heads import TwoHeads
from sonoedge.benchmarks.explanations.ruler.images import measure_image
from sonoedge.benchmarks.explanations.ruler.road import SHARES
from sonoedge.benchmarks.records.journal import Journal
from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.explain.methods.table import METHODS, Method
from sonoedge.edge_runtime.imaging.image import read_image, to_input
from sonoedge.edge_runtime.imaging.masks import read_mask
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.terminal import duration
from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.terminal import LOG

SANITY_IMAGES = 16
"""A random head is explained on so many images, spread by digest."""
_CALLS_OF_CRITERIA = 16 + 2 * len(SHARES)


def measure_methods(
    classifier: Classifier,
    dataset: Dataset,
    methods: Sequence[Method],
    partial: Path,
    *,
    picture: Path,
    budget: float | None = None,
    panels: int = 5,
    progress: bool = False,
) -> MethodComparison:
    """Measure methods on all images.

    Args:
        classifier: the artifact.
        dataset: the images.
        methods: what is compared.
        partial: file of the finished images: a later call goes on from it.
        picture: file to write, with cases side by side.
        budget: seconds for each map; None sets no limit.
        panels: images per class in the picture; 0 draws none.
        progress: show a bar.
    """
    sane = spread_choice(dataset, max(1, SANITY_IMAGES // len(dataset.labels)))
    digests = [dataset.samples[i].sha256 for i in sane]
    journal = Journal(partial, _fingerprint(classifier, methods, budget, digests))
    LOG.info(planned_cost(classifier, dataset, methods, budget, journal.resumed))
    heads = TwoHeads(classifier)
    for i in tqdm(_by_digest(dataset), desc="methods", unit="img", disable=not progress):
        sample = dataset.samples[i]

        def work(i: int = i, sample: Sample = sample) -> dict[str, Any]:
            picture = read_image(sample.path)
            return measure_image(
                heads, picture, _mask(sample, picture), methods, seconds=budget, sane=i in sane
            )  # fmt: skip

        journal.step(sample.sha256, work)
    steps = [journal.get(sample.sha256) for sample in dataset.samples]
    found = compared(classifier.artifact.name, dataset, steps, budget)
    if panels:
        _draw(dataset, steps, picture, panels)
    return found


def _by_digest(dataset: Dataset) -> list[int]:
    """All indices, classes in proportion from the first on: the first N are what --max-images N chooses."""
    places: dict[int, float] = {}
    for k in range(len(dataset.labels)):
        own = sorted(np.flatnonzero(dataset.y == k).tolist(), key=lambda i: dataset.samples[i].sha256)
        places |= {i: (rank + 0.5) / len(own) for rank, i in enumerate(own)}
    return sorted(places, key=lambda i: places[i])


def _mask(sample: Sample, picture: UInt8Image) -> NDArray[np.bool_] | None:
    """The lesion mask of an image; None if it is missing, empty or full."""
    if sample.mask_path is None:
        return None
    mask = read_mask(sample.mask_path, (picture.shape[0], picture.shape[1]))
    return mask if mask.any() and not mask.all() else None


def planned_cost(
    classifier: Classifier, dataset: Dataset, methods: Sequence[Method], budget: float | None, resumed: int
) -> str:
    """The most that the measurement will take, in a line, from the time of a few calls on the first image."""
    picture = read_image(dataset.samples[0].path)
    model_input = to_input(picture, classifier.input_size)
    times = []
    for _ in range(5):
        start = perf_counter()
        classifier.logit(model_input)
        times.append(perf_counter() - start)
    one, images = median(times), len(dataset) - resumed
    of_methods = [method.calls * one if budget is None else min(budget, method.calls * one) for method in methods]
    of_criteria = (len(methods) + len(CONTROLS)) * _CALLS_OF_CRITERIA * one
    most = images * (sum(of_methods) + of_criteria)
    calls = sum(method.calls for method in methods)
    done = f", {resumed} images were measured before" if resumed else ""
    return (
        f"{len(methods)} methods on {images} images{done}: up to {calls} calls an image for maps and "
        f"{(len(methods) + len(CONTROLS)) * _CALLS_OF_CRITERIA} for criteria, {1e3 * one:.1f} ms a call; "
        f"about {duration(most)} at most, ROAD's pictures apart"
    )


def _fingerprint(
    classifier: Classifier, methods: Sequence[Method], budget: float | None, sane: Sequence[str]
) -> str:
    """Of all that an image's step depends on; not of the other images, so that more can be added later."""
    parts = [
        bundle_digest(classifier.bundle.path), classifier.artifact.name, str(budget),
        *(method.name for method in methods), *map(str, sane),
    ]  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _draw(dataset: Dataset, steps: Sequence[dict], path: Path, per_class: int) -> None:
    chosen = np.array(spread_choice(dataset, per_class))
    names = list(steps[0]["maps"])
    titles = {name: METHODS[name].title if name in METHODS else name for name in names}
    columns = {
        titles[name]: np.maximum(np.array([steps[i]["maps"][name]["cells"] for i in chosen], np.float32), 0.0)
        for name in names
    }
    captions = []
    for i in chosen:
        truth, said = dataset.labels[dataset.y[i]], dataset.labels[int(steps[i]["positive"])]
        right = "right" if truth == said else "WRONG"
        captions.append(f"{Path(dataset.samples[i].relative_path).stem}\n{said}: {right}")
    title = "Maps of the predicted class by method; each map scaled to its own peak"
    draw_panels(dataset.select(chosen), columns, captions, path, title=title)
