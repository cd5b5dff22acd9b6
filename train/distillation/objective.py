"""Teaching: the loss between a student's and a teacher's hidden maps, and the loop that lowers it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from sonoedge.train.callbacks import keras_listeners
from sonoedge.train.distillation.least_squares import fit_dense
from sonoedge.train.distillation.targets import Targets
from sonoedge.train.distillation.teacher import Maps, Teacher
from sonoedge.train.evaluation.results import History
from sonoedge.train.fitting.heads import EpochBar
from sonoedge.train.fitting.stopping import EpochOrder
from sonoedge.train.models.fusion import HeadSpec, build_head
from sonoedge.train.records.settings import DistillFit

_BLOCK = 64
_THIN_IMAGES = 512


class Distiller(keras.Model):
    """The upper part and the head of a student, with the loss between it and its teacher.

    The loss is a weighted sum of
      pooled  squared error of the first dense layer's output, by unit, in units of its variance over the images;
      map     the same at every position, less the mean over the positions;
      cam     1 - cosine between the Grad-CAM maps, both signed;
      logit   cross-entropy with the teacher's softened probability;
      label   cross-entropy with the label.
    """

    def __init__(self, upper: keras.Model, head: keras.Model, targets: Targets, fit: DistillFit) -> None:
        super().__init__()
        self.upper = upper
        self.dense = _dense_layers(head)
        self.settings = fit
        self._pooled_scale = _precision(targets.pooled)
        self._map_scale = _precision(targets.hidden.reshape(-1, targets.hidden.shape[-1]))

    def set_trainable(self, *, normalisation: bool) -> None:
        """Train everything, or everything but batch normalisation, which then keeps its statistics."""
        self.upper.trainable = True
        for layer in self.upper.layers:
            layer.trainable = normalisation or not isinstance(layer, keras.layers.BatchNormalization)

    def call(self, x: Any) -> dict[str, Any]:
        """Activations at the cut -> the student's answers, by name.

        Returns:
            ``hidden`` maps (N, h, w, U), ``pooled`` output of the first dense layer (N, U), ``logit`` (N,) and
            signed Grad-CAM map ``cam`` (N, h, w).
        """
        maps = self.upper(x)
        hidden = ops.matmul(maps, self.dense[0].kernel)
        values = [ops.mean(hidden, axis=(1, 2)) + self.dense[0].bias]
        for layer in self.dense[1:]:
            values.append(ops.matmul(ops.relu(values[-1]), layer.kernel) + layer.bias)
        gradient = ops.ones_like(values[-1])
        for layer, before in zip(self.dense[:0:-1], values[-2::-1], strict=True):
            gradient = ops.matmul(gradient, ops.transpose(layer.kernel)) * ops.cast(before > 0, "float32")
        cam = ops.einsum("nhwu,nu->nhw", hidden, gradient)
        return {"hidden": hidden, "pooled": values[0], "logit": values[-1][:, 0], "cam": cam}

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:
        """The loss of the class docstring; ``y`` has hidden, pooled, logit, cam and label."""
        fit = self.settings
        pooled = ops.mean(ops.square(y_pred["pooled"] - y["pooled"]) * self._pooled_scale)
        # By position only the pattern: the pooled term compares the mean.
        deviation = y_pred["hidden"] - ops.mean(y_pred["hidden"], axis=(1, 2), keepdims=True)
        wanted = y["hidden"] - ops.mean(y["hidden"], axis=(1, 2), keepdims=True)
        pattern = ops.mean(ops.square(deviation - wanted) * self._map_scale)
        soft = ops.sigmoid(y["logit"] / fit.temperature)
        logit = fit.temperature**2 * _cross_entropy(soft, y_pred["logit"] / fit.temperature)
        return (
            fit.pooled_weight * pooled
            + fit.map_weight * pattern
            + fit.cam_weight * ops.mean(1 - _cosine(y_pred["cam"], y["cam"]))
            + fit.logit_weight * logit
            + fit.label_weight * _cross_entropy(y["label"], y_pred["logit"])
        )


class _Batches(keras.utils.PyDataset):
    """Batches of targets; only seed and number decide the order of an epoch, also after a restart."""

    def __init__(self, targets: Targets, batch_size: int, seed: int | None) -> None:
        super().__init__()
        self._targets, self._batch_size, self._seed = targets, batch_size, seed
        self.start(0)

    def start(self, epoch: int) -> None:
        count = len(self._targets.y)
        rng = np.random.default_rng([self._seed or 0, epoch])
        self._order = np.arange(count) if self._seed is None else rng.permutation(count)

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        t = self._targets
        return t.x[rows], {
            "hidden": t.hidden[rows],
            "pooled": t.pooled[rows],
            "logit": t.logit[rows],
            "cam": t.cam[rows],
            "label": t.y[rows].astype(np.float32),
        }


class _Best(keras.callbacks.Callback):
    """Keeps the weights of the best epoch in a file, so that they outlive an interruption."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self._weights, self._value = folder / "best.weights.h5", folder / "best.txt"

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = float(logs["val_loss"])
        if not self._value.is_file() or value < float(self._value.read_text()):
            self.model.save_weights(self._weights)
            self._value.write_text(repr(value))

    def on_train_end(self, logs: Any = None) -> None:
        self.model.load_weights(self._weights)


def start_head(
    upper: keras.Model,
    teacher: Teacher,
    targets: Targets,
    ridge: float,
    *,
    near: Maps | None = None,
) -> keras.Model:
    """A head of the teacher's widths, with the teacher's later layers and a first layer found by least squares.

    The first layer is a ridge regression, in closed form: from the student's pooled maps to the output of the
    teacher's first layer.

    Args:
        upper: the student before its head, activations at the cut -> maps (N, h, w, C).
        teacher: whose head is copied.
        targets: of the training images.
        ridge: strength of the penalty, as a share of the mean variance of a channel.
        near: kernel (C, U) to which the penalty holds the first layer's; by default zero.
    """
    blocks = range(0, len(targets.x), _BLOCK)
    maps = [np.asarray(upper(targets.x[start : start + _BLOCK], training=False)) for start in blocks]
    pooled = np.concatenate([part.mean(axis=(1, 2), dtype=np.float64) for part in maps])
    if near is None:
        near = np.zeros((pooled.shape[1], targets.pooled.shape[1]), np.float32)
    spec = HeadSpec(units=teacher.units, dropout=teacher.dropout)
    head = build_head({"features": (pooled.shape[1],)}, spec).head
    first, *others = _dense_layers(head)
    first.set_weights(fit_dense(pooled, targets.pooled.astype(np.float64), near.astype(np.float64), ridge))
    for layer, weights in zip(others, teacher.dense[1:], strict=True):
        layer.set_weights(weights)
    return head


def thin_directions(distiller: Distiller, targets: Targets, rank: int) -> NDArray[np.float32]:
    """Orthonormal directions (U, rank) in which the first dense layer's output varies most.

    Both its values by position and its mean over positions count.

    The layer is changed in place: its output then varies along these directions only. There are far fewer of them
    than units, so that the layer, the largest part of a small model, can be stored as two thin ones.
    """
    answers = distiller.predict(targets.x[:_THIN_IMAGES], verbose=0)
    pooled = answers["pooled"].astype(np.float64)
    rows = answers["hidden"].reshape(-1, pooled.shape[1]).astype(np.float64)
    positions = len(rows) // len(pooled)
    covariance = np.cov(rows.T, bias=True) + positions * np.cov(pooled.T, bias=True)
    directions = np.linalg.eigh(np.atleast_2d(covariance))[1][:, ::-1][:, :rank]
    projection = directions @ directions.T
    first = distiller.dense[0]
    kernel, bias = first.get_weights()
    mean = pooled.mean(axis=0)
    first.set_weights([kernel @ projection, (bias - mean) @ projection + mean])
    return directions.astype(np.float32)


def teach(
    distiller: Distiller, targets: Targets, val: Targets, *, seed: int, backup: Path, progress: bool
) -> History:
    """Lower the loss, in place; the epoch with the lowest loss on validation is kept.

    After an interruption, the next call with the same ``backup`` folder goes on after the last finished epoch.

    Returns:
        Losses by epoch.
    """
    fit = distiller.settings
    batches = _Batches(targets, fit.batch_size, seed)
    steps = fit.epochs * len(batches)
    warm_up = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=fit.learning_rate, warmup_steps=warm_up
    )
    distiller.compile(keras.optimizers.AdamW(rate, weight_decay=fit.weight_decay), jit_compile=False)
    distiller(targets.x[:1])  # builds it, which restoring needs
    result = distiller.fit(
        batches,
        validation_data=_Batches(val, fit.batch_size, None),
        epochs=fit.epochs,
        callbacks=[
            EpochOrder(batches),
            EpochBar(fit.epochs, progress, "teach"),
            *keras_listeners(),
            _Best(backup),
            keras.callbacks.BackupAndRestore(backup / "epochs"),
        ],
        shuffle=False,
        verbose=0,
    )
    shutil.rmtree(backup, ignore_errors=True)
    return {name: [float(value) for value in values] for name, values in result.history.items()}


def map_cosine(a: Maps, b: Maps) -> float:
    """Median cosine between two sets of heat maps (N, h, w), of their parts above zero.

    Images without such a part in one of the maps are left out; NaN if none is left.
    """
    x, y = (np.maximum(maps, 0).reshape(len(maps), -1).astype(np.float64) for maps in (a, b))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    shown = norms > 0
    return float(np.median((x * y).sum(axis=1)[shown] / norms[shown])) if shown.any() else float("nan")


def _precision(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """One over the variance by unit (U,); units that vary less than the median count like the median."""
    variance = values.var(axis=0)
    return np.asarray(1 / np.maximum(variance, max(float(np.median(variance)), 1e-12)), np.float32)


def _cross_entropy(probability: Any, logit: Any) -> Any:
    """Mean cross-entropy from logits; stable for large ones."""
    return ops.mean(ops.softplus(logit) - probability * logit)


def _cosine(a: Any, b: Any) -> Any:
    a, b = (ops.reshape(x, (ops.shape(x)[0], -1)) for x in (a, b))
    norms = ops.sqrt(ops.sum(ops.square(a), axis=1) * ops.sum(ops.square(b), axis=1))
    return ops.sum(a * b, axis=1) / (norms + 1e-12)


def _dense_layers(head: keras.Model) -> list[keras.layers.Dense]:
    return [layer for layer in head.layers if isinstance(layer, keras.layers.Dense)]
