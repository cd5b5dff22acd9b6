"""``train --log``: the epochs and the final metrics of a run, for spreadsheets, TensorBoard and MLflow.

All is written when the training is done, from the history that also outlives an interruption. No file name of an
image, no path and no image leaves the run folder.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.errors import MissingExtraError, SonoEdgeError, UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.train.records.run_card import TrainedCard
from sonoedge.train.records.settings import words_only

LOGS = ("csv", "tensorboard", "mlflow")
"""csv: history.csv and metrics.csv in the run folder; tensorboard: event files in its folder ``tensorboard``;
mlflow: a run of the experiment and at the place that MLflow's own environment variables name."""


def check_logs(names: Sequence[str]) -> None:
    """Check before the training that everything can be logged.

    Raises:
        MissingExtraError: MLflow is not installed.
        UsageError: an unknown name, or MLflow's store cannot be used.
    """
    if unknown := [name for name in names if name not in LOGS]:
        raise UsageError(f"--log takes {', '.join(LOGS)}. Received: {', '.join(map(repr, unknown))}.")
    if "mlflow" in names and find_spec("mlflow") is None:
        raise MissingExtraError("mlflow", "mlflow")
    if "mlflow" in names:
        import mlflow

        try:
            mlflow.MlflowClient().search_experiments(max_results=1)
        except (mlflow.exceptions.MlflowException, ImportError, OSError) as error:
            raise UsageError(f"MLflow's store cannot be used, see MLFLOW_TRACKING_URI: {_first(error)}") from error


def log_into(names: Sequence[str], card: TrainedCard, folder: Path) -> None:
    """Write what lies in the run folder: CSV and TensorBoard's events."""
    if "csv" in names:
        write_text_atomic(folder / "history.csv", _history_csv(card))
        write_text_atomic(folder / "metrics.csv", _metrics_csv(card))
    if "tensorboard" in names:
        _write_events(card, folder / "tensorboard")


def log_beside(names: Sequence[str], card: TrainedCard, run: Path) -> None:
    """Log what lies elsewhere (MLflow); the run folder is complete.

    Raises:
        SonoEdgeError: MLflow refuses.
    """
    if "mlflow" not in names:
        return
    import mlflow

    try:
        with mlflow.start_run(run_name=run.name):
            mlflow.log_params(_parameters(card))
            mlflow.set_tag("intended_use", card.intended_use)
            for name, value, step in _scalars(card):
                mlflow.log_metric(name, value, step=step)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise SonoEdgeError(f"{run} is complete, but MLflow did not take its figures: {_first(error)}") from error


def _first(error: Exception) -> str:
    """The first line of an error: MLflow's may be long."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _stages(card: TrainedCard) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """By stage of the training, the quantities of every epoch; those that are not finite are left out."""
    for stage, history in (("head", card.history), ("fine-tune", card.fine_tune_history)):
        if history:
            count = max(len(values) for values in history.values())
            rows: list[dict[str, float]] = [{} for _ in range(count)]
            for name, values in history.items():
                for row, value in zip(rows, values, strict=False):
                    if value is not None:
                        row[name] = value
            yield stage, rows


def _scalars(card: TrainedCard) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of everything: ``head/val_loss`` by epoch, then ``test/auc``, ``test/auc_low``, …."""
    for stage, rows in _stages(card):
        for epoch, row in enumerate(rows, start=1):
            yield from ((f"{stage}/{name}", value, epoch) for name, value in row.items())
    for subset, metrics in card.metrics.items():
        for name, estimate in metrics.items():
            for end, value in zip(("", "_low", "_high"), estimate, strict=True):
                if value is not None:
                    yield f"{subset}/{name}{end}", value, 0


def _parameters(card: TrainedCard) -> dict[str, Any]:
    """The settings without paths, and what identifies the data."""
    images = {f"images_{subset}": count for subset, count in card.dataset.images.items()}
    return {**words_only(card.settings), "data_digest": card.dataset.digest, **images, "threshold": card.threshold}


def _history_csv(card: TrainedCard) -> str:
    stages = dict(_stages(card))
    names = list(dict.fromkeys(name for rows in stages.values() for row in rows for name in row))
    lines = [
        [stage, epoch, *(row.get(name, "") for name in names)]
        for stage, rows in stages.items()
        for epoch, row in enumerate(rows, start=1)
    ]
    return _csv([["stage", "epoch", *names], *lines])


def _metrics_csv(card: TrainedCard) -> str:
    lines = [
        [subset, name, *("" if x is None else x for x in estimate)]
        for subset, metrics in card.metrics.items()
        for name, estimate in metrics.items()
    ]
    return _csv([["subset", "metric", "value", "low", "high"], *lines])


def _csv(rows: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _write_events(card: TrainedCard, folder: Path) -> None:
    """Scalars as TensorBoard reads them; `tf.summary.scalar` would need TensorBoard, which only viewing needs."""
    import tensorflow as tf

    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
        data_class=1,  # DATA_CLASS_SCALAR of summary.proto
    )
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for name, value, step in _scalars(card):
            tf.summary.write(name, tf.constant(value, tf.float32), step=step, metadata=metadata)
    writer.close()
