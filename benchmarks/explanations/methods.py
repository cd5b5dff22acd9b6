"""The part of `benchmark_explain` that compares methods: opens the artifact and its test images, then measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sonoedge.benchmarks.explanations.evaluation import ExplanationRequest, limited
from sonoedge.benchmarks.explanations.maps import known_subset
from sonoedge.benchmarks.explanations.report import METHODS_PICTURE
from sonoedge.benchmarks.explanations.ruler.comparison import MethodComparison
from sonoedge.benchmarks.explanations.ruler.measuring import measure_methods
from sonoedge.edge_runtime.bundle.trust import load_trusted
from sonoedge.edge_runtime.explain.methods.table import Method
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.train.data.dataset import load_dataset


def compare_methods(
    request: ExplanationRequest, methods: Sequence[Method], budget: float | None, partial: Path
) -> MethodComparison:
    """Compare methods on the test images of the request; on all images if the bundle knows none of them.

    What is finished is kept in the file ``partial``.
    """
    bundle = load_trusted(request.bundle)
    dataset = load_dataset(request.data, classes=bundle.labels)
    test = known_subset(bundle, dataset, "test")
    images = limited(dataset if test is None else test, request.limit)
    name = next(iter(request.artifacts), None)
    with Classifier(bundle, name, threads=request.threads) as classifier:
        return measure_methods(
            classifier, images, methods, partial,
            picture=request.out / METHODS_PICTURE, budget=budget, panels=request.panels, progress=request.progress,
        )  # fmt: skip
