"""Eigen-CAM finds the common pattern of all maps."""

from __future__ import annotations

import numpy as np
import pytest

from sonoedge.benchmarks.explanations.eigencam import eigen_cam
from sonoedge.edge_runtime.explain.gradcam import (
    stretch,
)


def test_eigen_cam_finds_the_common_pattern() -> None:
    rng = np.random.default_rng(0)
    pattern = np.zeros((4, 4), np.float32)
    pattern[1, 2], pattern[2, 2] = 1.0, 0.5
    maps = {
        name: pattern[None, :, :, None] * rng.random(size).astype(np.float32) for name, size in (("a", 6), ("b", 9))
    }
    found = eigen_cam(maps)
    np.testing.assert_allclose(found / found.max(), pattern, atol=1e-5)
    assert found.dtype == np.float32
    # Singular value times singular vector.
    assert np.linalg.norm(found) == pytest.approx(
        np.linalg.norm(np.concatenate([m.reshape(16, -1) for m in maps.values()], axis=1)), rel=1e-5
    )


def test_eigen_cam_of_branches_with_different_grids() -> None:
    rng = np.random.default_rng(0)
    maps = {"a": rng.random((1, 7, 7, 5)).astype(np.float32), "b": rng.random((1, 5, 5, 3)).astype(np.float32)}
    wide = [stretch(m[0], (7, 7)).reshape(49, -1) for m in maps.values()]
    left, values, _ = np.linalg.svd(np.concatenate(wide, axis=1), full_matrices=False)
    np.testing.assert_allclose(eigen_cam(maps).ravel(), np.abs(left[:, 0]) * values[0], rtol=1e-3)


def test_eigen_cam_of_nothing() -> None:
    assert not eigen_cam({"a": np.zeros((1, 3, 3, 4), np.float32)}).any()
