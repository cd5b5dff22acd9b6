"""Grad-CAM: the map that the head computes with the answer.

Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2. Cost: no call. See `edge_runtime.explain.gradcam`.
"""

from __future__ import annotations

import numpy as np

from sonoedge.edge_runtime.errors import BundleError
from sonoedge.edge_runtime.explain.methods.budget import Budget
from sonoedge.edge_runtime.explain.methods.probe import Probe
from sonoedge.edge_runtime.types import Float32Array


def values(probe: Probe, budget: Budget, seed: int) -> Float32Array:
    """The fused map before the ReLU, float32 (h, w); ``seed`` is not used.

    Raises:
        BundleError: the artifact was exported without explanations.
    """
    if "cam" not in probe.outputs:
        raise BundleError("This artifact was exported without explanation outputs: cam.")
    budget.more(1, 1)
    return np.float32(probe.sign) * probe.outputs["cam"][0]
