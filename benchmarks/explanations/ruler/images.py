"""Everything that is measured of one image: one step of the journal, plain JSON types."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.benchmarks.explanations.ruler.controls import control_maps
from sonoedge.benchmarks.explanations.ruler.criteria import complexity, faithful, located, on_grid
from sonoedge.benchmarks.explanations.ruler.heads import TwoHeads
from sonoedge.edge_runtime.explain.methods.budget import Budget, rank_correlation
from sonoedge.edge_runtime.explain.methods.probe import Probe
from sonoedge.edge_runtime.explain.methods.table import Method
from sonoedge.edge_runtime.imaging.image import to_input
from sonoedge.edge_runtime.types import Float32Array, UInt8Image
from sonoedge.train.evaluation.metrics import sigmoid


def measure_image(
    heads: TwoHeads,
    picture: UInt8Image,
    mask: NDArray[np.bool_] | None,
    methods: Sequence[Method],
    *,
    seconds: float | None = None,
    sane: bool = True,
) -> dict[str, Any]:
    """Every method's map of the predicted class, and both controls', measured.

    Args:
        heads: the artifact.
        picture: uint8 (height, width, 3).
        mask: of the lesion, bool (height, width); None if there is none.
        methods: to measure.
        seconds: budget of each method; None sets no limit.
        sane: whether to explain a random head, too.

    Returns:
        ``logit``; ``positive``; ``maps``: per method or control its criteria, and for methods ``calls``,
        ``head_calls``, ``seconds``, ``stopped`` and ``cells``, the map on the common grid, its largest value 1;
        ``agreement``: rank correlations by ``a|b``. What is not defined is None.
    """
    heads.forget()
    classifier = heads.classifier
    prediction, outputs = classifier.explain_raw(picture)
    image = to_input(picture, classifier.input_size)[0]
    positive = prediction.label == classifier.bundle.positive_label
    sign = 1.0 if positive else -1.0

    def probability(model_input: Float32Array) -> float:
        return float(sigmoid(sign * heads.own(model_input)))

    found: dict[str, dict[str, Any]] = {}
    grids: dict[str, Float32Array] = {}
    for method in methods:
        probe = Probe(image, outputs, sign, heads.own, classifier.logit_of_maps)
        budget = Budget(seconds)
        values = method.values(probe, budget, 0)
        found[method.name] = {
            "calls": probe.calls, "head_calls": probe.head_calls,
            "seconds": budget.elapsed, "stopped": budget.stopped,
            **_criteria(values, image, mask, probability),
            "sanity": _likeness(heads, method, image, outputs, values, seconds) if sane else None,
        }  # fmt: skip
        grids[method.name] = on_grid(values)
    for name, values in control_maps(image).items():
        # A control does not depend on the head: with any head it is the same map.
        found[name] = {**_criteria(values, image, mask, probability), "sanity": 1.0 if sane else None}
        grids[name] = on_grid(values)
    for name, grid in grids.items():
        found[name]["cells"] = np.round(grid / (np.abs(grid).max() or 1.0), 3).tolist()
    return {
        "logit": prediction.logit,
        "positive": positive,
        "maps": found,
        "agreement": {f"{a}|{b}": _known(rank_correlation(grids[a], grids[b])) for a, b in combinations(grids, 2)},
    }


def _criteria(
    values: Float32Array,
    image: Float32Array,
    mask: NDArray[np.bool_] | None,
    probability: Callable[[Float32Array], float],
) -> dict[str, Any]:
    body = {**faithful(probability, image, values), **located(values, mask), **complexity(values)}
    return {**{name: _known(value) for name, value in body.items()}, "zero": not bool((values > 0).any())}


def _likeness(
    heads: TwoHeads,
    method: Method,
    image: Float32Array,
    outputs: dict[str, Float32Array],
    values: Float32Array,
    seconds: float | None,
) -> float | None:
    """Absolute rank correlation with the method's map of a random head."""
    probe = Probe(image, heads.random_outputs(outputs), 1.0, heads.random, heads.random_of_maps)
    other = method.values(probe, Budget(seconds), 0)
    return _known(abs(rank_correlation(on_grid(values), on_grid(other))))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
