"""The head by logistic regression: one optimum instead of a run of Adam that validation has to stop.

On some hundred images a head of 460,000 weights is found best by a convex problem: logistic regression on the
standardised features with a Gaussian prior on its weights, the same for each map as a whole. It needs no epochs, no
seed and no early stopping.

The regression is then written into the paper's layers as they are. Each pair of hidden units is a direction and its
mirror image, and relu(u) - relu(-u) = u, so that the dense layers compute the regression exactly. The directions
are the principal components of the features, and the rest of the regression's own direction. So a student that is
taught the hidden units (`train.distillation.teacher`) learns what varies most over the images, and the logit.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.utils.extmath import randomized_svd

from sonoedge.edge_runtime.errors import UsageError

Rows = NDArray[np.float32]
Float = NDArray[np.float64]

_MAX_ITERATIONS = 1000


def map_variances(channels: Sequence[int], variance: float) -> Float:
    """Prior variances (C,) that give every map the same influence, however many channels it has.

    Args:
        channels: of each map; they add up to C.
        variance: mean of the variances over all weights.
    """
    mean = sum(channels) / len(channels)
    return np.concatenate([np.full(count, variance * mean / count) for count in channels])


def logistic_regression(
    x: Rows, y: NDArray[np.int64], variances: Float, *, balanced: bool = False, rows_per_image: int = 1
) -> tuple[Float, float]:
    """Weights (C,) and intercept of the most probable logistic regression on standardised rows.

    Args:
        x: standardised features (N, C).
        y: 0 or 1, (N,).
        variances: of the Gaussian prior on each weight, (C,); smaller is smoother.
        balanced: give both classes the same weight.
        rows_per_image: rows that show the same image; together they count as one.
    """
    scale = np.sqrt(variances)
    model = LogisticRegression(
        C=1 / rows_per_image, class_weight="balanced" if balanced else None, max_iter=_MAX_ITERATIONS
    )
    model.fit(x * scale.astype(np.float32), y)
    return model.coef_[0].astype(np.float64) * scale, float(model.intercept_[0])


def write_linear(head: keras.Model, weights: Float, intercept: float, x: Rows, *, seed: int) -> None:
    """Make a head of dense layers with ReLU compute ``x @ weights + intercept``, whatever its widths are.

    Args:
        head: dense layers, each with at least two units except the last, ``logit``.
        weights: (C,), for the C inputs of the first dense layer.
        intercept: of the regression.
        x: rows (N, C); their principal components become the first layer's other units.
        seed: of the search for the components.

    Raises:
        UsageError: a hidden layer of one unit has no room for a mirror image.
    """
    *hidden, logit = [layer for layer in head.layers if isinstance(layer, keras.layers.Dense)]
    if any(layer.units < 2 for layer in hidden):
        raise UsageError(f"--units must be at least 2. Received: {','.join(str(x.units) for x in hidden)}.")
    if not hidden:
        logit.set_weights([weights[:, None].astype(np.float32), np.array([intercept], np.float32)])
        return
    first, *others = hidden
    directions, shares = _directions(weights, x, first.units // 2, seed)
    first.set_weights(
        [_padded(np.concatenate([directions, -directions], axis=1), first.units), np.zeros(first.units, np.float32)]
    )
    out = np.concatenate([shares, -shares])[:, None]
    for layer in others:  # from here on the logit itself and its mirror image
        layer.set_weights(
            [_both_padded(np.concatenate([out, -out], axis=1), layer), np.zeros(layer.units, np.float32)]
        )
        out = np.array([[1.0], [-1.0]])
    kernel = np.zeros((hidden[-1].units, 1), np.float32)
    kernel[: len(out)] = out
    logit.set_weights([kernel, np.array([intercept], np.float32)])


def _directions(weights: Float, x: Rows, count: int, seed: int) -> tuple[Float, Float]:
    """Directions (C, k) and shares (k,) with ``directions @ shares == weights``; k is at most ``count``."""
    components = min(count - 1, *x.shape)
    if components < 1:
        return weights[:, None], np.ones(1)
    _, _, found = randomized_svd(x - x.mean(axis=0), components, random_state=seed)
    basis = found.T.astype(np.float64)
    shares = basis.T @ weights
    rest = weights - basis @ shares
    return np.concatenate([basis, rest[:, None]], axis=1), np.append(shares, 1.0)


def _padded(kernel: Float, units: int) -> Rows:
    """A kernel with zero columns added up to a width."""
    return np.pad(kernel, ((0, 0), (0, units - kernel.shape[1]))).astype(np.float32)


def _both_padded(kernel: Float, layer: keras.layers.Dense) -> Rows:
    """A kernel with zero rows and columns added up to the shape of a layer's kernel."""
    rows = int(layer.kernel.shape[0])
    return _padded(np.pad(kernel, ((0, rows - kernel.shape[0]), (0, 0))), layer.units)
