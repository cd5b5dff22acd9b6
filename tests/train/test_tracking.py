"""``--log``: what reaches spreadsheets, TensorBoard and MLflow, and what does not."""

from __future__ import annotations

import csv
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sonoedge.edge_runtime.errors import MissingExtraError, SonoEdgeError, UsageError
from sonoedge.train.records.settings import TrainSettings
from sonoedge.train.tracking import check_logs, log_beside, log_into
from tests.helpers.measured_runs import run_card

CARD = run_card(TrainSettings("/home/dr_smith/study", weights="/home/dr_smith/weights", seed=3))


def test_csv_has_every_epoch_and_every_metric(tmp_path: Path) -> None:
    log_into(["csv"], CARD, tmp_path)
    assert (tmp_path / "history.csv").read_text() == "stage,epoch,loss,val_loss\nhead,1,0.7,0.8\nhead,2,0.6,\n"
    rows = list(csv.reader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert rows == [
        ["subset", "metric", "value", "low", "high"],
        ["test", "auc", "0.8", "0.6", "0.9"],
        ["test", "precision", "", "", ""],
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "metrics.csv"}


@pytest.mark.tensorflow
def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    import tensorflow as tf

    log_into(["tensorboard"], CARD, tmp_path)
    (file,) = (tmp_path / "tensorboard").iterdir()
    found = {}
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert found == pytest.approx(
        {
            ("head/loss", 1): 0.7, ("head/loss", 2): 0.6, ("head/val_loss", 1): 0.8,
            ("test/auc", 0): 0.8, ("test/auc_low", 0): 0.6, ("test/auc_high", 0): 0.9,
        }
    )  # fmt: skip


class MLflow:
    """In place of the package: keeps what it is told."""

    def __init__(self, fails: bool = False) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.exceptions = SimpleNamespace(MlflowException=RuntimeError)
        self._fails = fails

    def MlflowClient(self) -> MLflow:
        return self

    def search_experiments(self, max_results: int) -> None:
        if self._fails:
            raise RuntimeError("no such server\nand advice")

    @contextmanager
    def start_run(self, run_name: str) -> Any:
        if self._fails:
            raise RuntimeError("no such server")
        self.told.append((run_name,))
        yield

    def log_params(self, values: dict[str, Any]) -> None:
        self.told.append(("params", values))

    def set_tag(self, name: str, value: str) -> None:
        self.told.append((name, value))

    def log_metric(self, name: str, value: float, step: int) -> None:
        self.told.append((name, value, step))


def test_mlflow_is_told_figures_and_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = MLflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)  # type: ignore[arg-type]
    log_beside(["mlflow"], CARD, Path("runs/mine"))
    assert fake.told[0] == ("mine",)
    assert {("head/loss", 0.6, 2), ("test/auc_low", 0.6, 0)} <= {item for item in fake.told if len(item) == 3}
    (params,) = [item[1] for item in fake.told if item[0] == "params"]
    assert params["seed"] == 3 and params["data_digest"] == "0" * 64 and params["images_train"] == 4
    assert "dr_smith" not in str(fake.told)


def test_if_mlflow_refuses_the_run_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", MLflow(fails=True))  # type: ignore[arg-type]
    with pytest.raises(
        SonoEdgeError, match="mine is complete, but MLflow did not take its figures: no such server"
    ):
        log_beside(["mlflow"], CARD, Path("runs/mine"))


def test_what_cannot_be_logged_is_refused_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    check_logs(["csv", "tensorboard"])
    with pytest.raises(UsageError, match=r"--log takes csv, tensorboard, mlflow\. Received: 'wandb'"):
        check_logs(["csv", "wandb"])
    monkeypatch.setattr("sonoedge.train.tracking.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "mlflow", MLflow())  # type: ignore[arg-type]
    check_logs(["mlflow"])
    monkeypatch.setitem(sys.modules, "mlflow", MLflow(fails=True))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"store cannot be used, see MLFLOW_TRACKING_URI: no such server$"):
        check_logs(["mlflow"])
    monkeypatch.setattr("sonoedge.train.tracking.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"\[mlflow\]"):
        check_logs(["mlflow"])
