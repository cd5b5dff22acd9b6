"""Why a result came out: any method of `edge_runtime.explain.methods`, on the model that decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np

from sonoedge.edge_runtime.explain.gradcam import Explanation
from sonoedge.edge_runtime.explain.methods.budget import Budget
from sonoedge.edge_runtime.explain.methods.probe import Probe
from sonoedge.edge_runtime.explain.methods.table import GRADCAM, method_of
from sonoedge.edge_runtime.imaging.image import to_input
from sonoedge.edge_runtime.model.result import Result
from sonoedge.edge_runtime.types import Float32Array


class Askable(Protocol):
    """A model that gives logits of other pictures and of other feature maps."""

    input_size: tuple[int, int]

    def logit(self, model_input: Float32Array) -> float:
        """The logit of one prepared input, float32 (1, height, width, 3), 0–255."""

    def logit_of_maps(self, maps: Mapping[str, Float32Array]) -> float:
        """The logit of feature maps by branch."""


def explain_result(
    decided: Askable,
    result: Result,
    label: str | None = None,
    *,
    scale: tuple[float, float] = (1.0, 0.0),
    method: str = GRADCAM,
    budget: Budget | None = None,
    seed: int = 0,
) -> Explanation:
    """Explain a result.

    Args:
        decided: the model that gave it, still open; of a cascade the one that decided.
        result: what it said.
        label: the class to explain; None takes the predicted one.
        scale: factor and offset of its logits; see `Predictor.scale_of`.
        method: name of the method.
        budget: its time starts here at the latest; None sets no limit.
        seed: of methods that draw at random.

    Raises the errors of `Predictor.explain`.
    """
    chosen = method_of(method)
    chosen.require()
    plain = result.explain(label)  # raises if the image was refused
    if method == GRADCAM:
        return plain
    assert result.outputs is not None
    factor, offset = scale
    probe = Probe(
        image=to_input(result.picture, decided.input_size)[0],
        outputs=result.outputs,
        sign=1.0 if plain.label == result.bundle.positive_label else -1.0,
        score=lambda model_input: factor * decided.logit(model_input) + offset,
        score_of_maps=lambda maps: factor * decided.logit_of_maps(maps) + offset,
    )
    limit = budget or Budget()
    values = chosen.values(probe, limit, seed)
    return replace(
        plain,
        cam=np.maximum(values, 0.0).astype(np.float32),
        branch_cams={},
        method=method,
        calls=probe.calls,
        head_calls=probe.head_calls,
        seconds=limit.elapsed,
        note=limit.says(),
    )
