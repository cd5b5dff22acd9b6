"""EigenCAM: where the backbone looks, independent of the head. A reference for Grad-CAM without gradients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sonoedge.edge_runtime.explain.gradcam import stretch
from sonoedge.edge_runtime.types import Float32Array


def eigen_cam(maps: Mapping[str, Float32Array]) -> Float32Array:
    """The first principal component of the feature maps over their positions.

    Muhammad and Yeasin, Eigen-CAM, IJCNN 2020: the projection of the maps on the first right singular vector of
    the matrix (positions, channels), not centred. The channels of all branches are joined on the largest grid. The
    decomposition leaves the sign open; it is chosen so that the sum is positive.

    Args:
        maps: outputs of a backbone, each float32 (1, h, w, C).

    Returns:
        float32 (H, W), >= 0. It is the same for every class.
    """
    height = max(array.shape[1] for array in maps.values())
    width = max(array.shape[2] for array in maps.values())
    gram = np.zeros((height * width, height * width))
    for array in maps.values():
        wide = stretch(array[0], (height, width)).reshape(height * width, -1).astype(np.float64)
        # Joining channels adds their Gram matrices, whose size depends on positions only: 49 x 49 for 7 x 7 maps.
        gram += wide @ wide.T
    values, vectors = np.linalg.eigh(gram)
    component = np.sqrt(max(values[-1], 0.0)) * vectors[:, -1]
    component *= 1.0 if component.sum() >= 0 else -1.0
    return np.maximum(component, 0.0).reshape(height, width).astype(np.float32)
