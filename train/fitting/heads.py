"""Fitting heads on cached features: the paper's protocol and ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from sonoedge.train.callbacks import EpochEnded, Stage, keras_listeners, tell
from sonoedge.train.evaluation.metrics import sigmoid
from sonoedge.train.evaluation.results import History
from sonoedge.train.features.cache import Features
from sonoedge.train.fitting.feature_set import FeatureSet, mixed, moments, standardise
from sonoedge.train.fitting.logistic import logistic_regression, map_variances, write_linear
from sonoedge.train.fitting.stopping import Stopping
from sonoedge.train.models.fusion import Head
from sonoedge.train.records.reader import plain
from sonoedge.train.records.settings import PAPER, FitSettings

_ROWS = 1024
_AVERAGED_STEPS = 100

LOGISTIC = FitSettings(learning_rate=0.0, batch_size=0, epochs=0, patience=0, logistic=0.03)
"""Logistic regression: it has no rate, batches or epochs."""

DEFAULT_GRID = (LOGISTIC,)
"""What the default protocol tries; if there is more than one (``--sweep``), validation decides."""


@dataclass(frozen=True)
class FitResult:
    """The settings that were chosen, their history per epoch, and all settings with their validation figures."""

    settings: FitSettings
    history: History
    candidates: list[dict[str, Any]]


def head_logits(model: Head, data: FeatureSet) -> NDArray[np.float64]:
    """Logits (N,) of the head on cached features."""
    inputs = data.inputs()
    # Called, because `predict` traces a graph for every new head, which takes longer than the head.
    parts = [
        keras.ops.convert_to_numpy(model.head_logit([x[start : start + _ROWS] for x in inputs], training=False))
        for start in range(0, len(data.y), _ROWS)
    ]
    return np.concatenate(parts).astype(np.float64).reshape(-1)


def fit_paper(
    model: Head, train: FeatureSet, val: FeatureSet, *, seed: int, progress: bool, settings: FitSettings = PAPER
) -> FitResult:
    """Fit by Table II of the paper (`PAPER`) or changed settings, on the features as they are."""
    history = _fit_head(model.head, train, val, settings, seed=seed, progress=progress)
    return FitResult(settings, history, [])


def fit_default(
    model: Head,
    train: FeatureSet,
    val: FeatureSet,
    *,
    seed: int,
    progress: bool,
    grid: Sequence[FitSettings] = DEFAULT_GRID,
) -> FitResult:
    """Fit with each of the settings, on standardised features, and keep the best on validation (AUC, then loss).

    Mean m and scale s of the training features (`train.fitting.feature_set.moments`) are folded into the first
    Dense layer afterwards, which is exact: W (x - m) / s + b = (W / s) x + (b - W m / s). The exported graph has no
    extra operator.

    Args:
        model: trained in place; each fit starts from its weights.
        train, val: features as they are.
        seed: of each fit.
        progress: show a bar.
        grid: settings to try, at least one.
    """
    mean, scale = moments(train)
    train, val = standardise(train, mean, scale), standardise(val, mean, scale)
    start = model.head.get_weights()
    best: tuple[tuple[float, float], FitSettings, History, list[NDArray[np.float32]]] | None = None
    candidates = []
    hidden = not progress or len(grid) == 1
    for settings in tqdm(grid, desc="choosing the fit", disable=hidden):
        model.head.set_weights(start)
        if settings.logistic:
            history = _fit_logistic(model, train, val, settings, seed=seed)
        else:
            history = _fit_head(model.head, train, val, settings, seed=seed, progress=False)
        logits = head_logits(model, val)
        auc, loss = float(roc_auc_score(val.y, logits)), log_loss(val.y, logits)
        epochs_run = 0 if settings.logistic else len(history["loss"])
        candidates.append({**plain(settings), "val_auc": auc, "val_loss": loss, "epochs_run": epochs_run})
        rank = (auc, -loss)
        if best is None or rank > best[0]:
            best = (rank, settings, history, model.head.get_weights())
    assert best is not None
    model.head.set_weights(best[3])
    first = next(layer for layer in model.head.layers if isinstance(layer, keras.layers.Dense))
    kernel, bias = first.get_weights()
    flat_mean, flat_scale = _flatten(mean), _flatten(scale)
    folded = kernel.astype(np.float64) / flat_scale[:, None]
    first.set_weights([folded.astype(np.float32), (bias - flat_mean @ folded).astype(np.float32)])
    return FitResult(best[1], best[2], candidates)


def temperature(y: NDArray[np.int64], logits: NDArray[np.float64]) -> float:
    """The divisor of logits that minimises the log loss (Guo et al., ICML 2017), within 0.5–10.

    The lower bound keeps a small validation set without an error from making the model infinitely sure.
    """
    found = minimize_scalar(
        lambda x: log_loss(y, logits / np.exp(x)), bounds=(np.log(0.5), np.log(10)), method="bounded"
    )
    return float(np.exp(found.x))


def fit_keras(
    model: keras.Model,
    x: Any,
    val: Any,
    settings: FitSettings,
    y: NDArray[np.int64],
    *,
    progress: bool,
    backup: Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    stage: Stage = "head",
) -> History:
    """Compile and fit with early stopping on val_loss; the best epoch's weights are kept.

    After an interruption, the next call with the same ``backup`` folder goes on after the last finished epoch.

    Args:
        model: image or features -> probability (N, 1).
        x, val: what Keras takes: a `PyDataset`, or a tuple of inputs and targets.
        settings: of the fit.
        y: training labels, for class weights.
        progress: show a bar.
        backup: folder; without one an interrupted fit starts again.
        callbacks: run before ours.
        stage: what the user's callbacks are told.
    """
    average: dict[str, Any] = {"use_ema": settings.averaged, "ema_momentum": 1 - 1 / _AVERAGED_STEPS}
    optimizer = (
        keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay, **average)
        if settings.weight_decay
        else keras.optimizers.Adam(settings.learning_rate, **average)
    )
    # Compiling with XLA costs more than a small head gains; only JAX needs it.
    jit = "auto" if keras.config.backend() == "jax" else False
    model.compile(optimizer, loss="binary_crossentropy", metrics=["accuracy"], jit_compile=jit)
    counts = np.bincount(y, minlength=2)
    weights = {k: len(y) / (2 * max(int(n), 1)) for k, n in enumerate(counts)} if settings.balanced else None
    restore = [keras.callbacks.BackupAndRestore(backup)] if backup else []
    stop = Stopping(settings.patience, backup)
    # This comes after the backup, which needs the last weights, and before `Stopping`, which keeps the best mean.
    mean = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if settings.averaged else []
    bar = EpochBar(settings.epochs, progress, stage)
    inputs, targets = x if isinstance(x, tuple) else (x, None)
    model.fit(
        inputs,
        targets,
        validation_data=val,
        epochs=settings.epochs,
        batch_size=settings.batch_size if targets is not None else None,
        class_weight=weights,
        shuffle=targets is not None,  # a `PyDataset` has an order of its own
        callbacks=[*callbacks, *restore, *mean, stop, bar, *keras_listeners()],
        verbose=0,
    )
    return stop.history


class EpochBar(keras.callbacks.Callback):
    """One bar over epochs (Keras' own prints a line for each), and the news to the user's callbacks."""

    def __init__(self, epochs: int, progress: bool, stage: Stage) -> None:
        super().__init__()
        self._epochs, self._stage = epochs, stage
        self._bar: Callable[[], tqdm] = lambda: tqdm(total=epochs, desc="epochs", disable=not progress)

    def on_train_begin(self, logs: Any = None) -> None:
        """Open the bar."""
        self._open = self._bar()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Count the epoch, show its losses and tell it."""
        self._open.update(1)
        figures = {name: float(value) for name, value in (logs or {}).items()}
        tell(EpochEnded(self._stage, epoch + 1, self._epochs, figures))
        self._open.set_postfix({name: f"{value:.3f}" for name, value in (logs or {}).items() if "loss" in name})

    def on_train_end(self, logs: Any = None) -> None:
        """Close the bar."""
        self._open.close()


def log_loss(y: NDArray[np.int64], logits: NDArray[np.float64]) -> float:
    """Mean binary cross-entropy, in nats, from labels (N,) and logits (N,)."""
    probability = np.clip(sigmoid(logits), 1e-12, 1 - 1e-12)
    return float(-np.mean(np.where(y == 1, np.log(probability), np.log(1 - probability))))


def _fit_head(
    head: keras.Model, train: FeatureSet, val: FeatureSet, settings: FitSettings, *, seed: int, progress: bool
) -> History:
    keras.utils.set_random_seed(seed)
    for number, layer in enumerate(head.layers):
        if isinstance(layer, keras.layers.Dropout):
            # A dropout layer has a random state of its own: without this a fit would depend on those before it.
            layer.seed_generator.state.assign(keras.random.SeedGenerator(seed + number).state)
    rows = (train.inputs(), train.targets())
    return fit_keras(
        head,
        mixed(rows, seed) if settings.mixup else rows,
        (val.inputs(), val.targets()),
        settings,
        train.y,
        progress=progress,
    )


def _fit_logistic(model: Head, train: FeatureSet, val: FeatureSet, settings: FitSettings, *, seed: int) -> History:
    """Fit by logistic regression. The history has one point: there are no epochs."""
    # In the order in which the head sees them: channels joined, then positions flattened.
    x = np.concatenate(train.inputs(), axis=-1).reshape(len(train.y), -1)
    counts = [count for maps in train.maps() for count in maps]
    weights, intercept = logistic_regression(
        x,
        train.y,
        np.tile(map_variances(counts, settings.logistic), x.shape[1] // sum(counts)),
        balanced=settings.balanced,
        rows_per_image=train.rows_per_image,
    )
    write_linear(model.head, weights, intercept, x, seed=seed)
    history: History = {}
    for prefix, data in (("", train), ("val_", val)):
        logits = head_logits(model, data)
        history[f"{prefix}loss"] = [log_loss(data.y, logits)]
        history[f"{prefix}accuracy"] = [float(np.mean((logits > 0) == (data.y == 1)))]
    return history


def _flatten(parts: list[Features]) -> NDArray[np.float64]:
    """One vector in the order in which the head sees it: channels joined, then positions flattened."""
    return np.concatenate(parts, axis=-1).reshape(-1).astype(np.float64)
