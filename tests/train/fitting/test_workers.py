"""``train --workers``: two processes fill one cache, and the run is the one that a single process gives."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoedge.train.fitting import workers
from tests.helpers.commands import Result, train_arguments

Run = Callable[..., Result]


def logits(run: Path) -> dict[str, float]:
    with (run / "predictions.csv").open() as file:
        return {row["image"]: float(row["logit"]) for row in csv.DictReader(file)}


def train_twice(sonoedge: Run, phantoms: Path, weights_dir: Path, tmp_path: Path) -> dict[int, dict[str, Any]]:
    cards = {}
    for count in (1, 2):
        more = ["--augment", 1, "--workers", count, "--cache", tmp_path / f"cache{count}"]
        found = sonoedge("train", *train_arguments(phantoms, weights_dir), *more, "--out", tmp_path / f"run{count}")
        assert found.code == 0, found.err
        cards[count] = json.loads((tmp_path / f"run{count}" / "run.json").read_text())
        assert "waiting for images" in found.out
    return cards


@pytest.mark.slow
def test_two_workers_give_the_run_of_one(sonoedge: Run, phantoms: Path, weights_dir: Path, tmp_path: Path) -> None:
    cards = train_twice(sonoedge, phantoms, weights_dir, tmp_path)
    assert [cards[count]["pipeline"]["workers"] for count in (1, 2)] == [1, 2]
    # Nothing was computed twice, nor by the training process after the workers.
    assert cards[2]["pipeline"]["images_computed"] == cards[1]["pipeline"]["images_computed"]
    assert 0 <= cards[2]["pipeline"]["waiting_share"] <= 1
    one, two = logits(tmp_path / "run1"), logits(tmp_path / "run2")
    assert one.keys() == two.keys()
    np.testing.assert_allclose([two[name] for name in one], list(one.values()), rtol=1e-3, atol=1e-3)
    assert cards[1]["weights"] == cards[2]["weights"]


@pytest.mark.slow
def test_what_a_worker_meets_is_told(phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    damaged = tmp_path / "weights" / "mobilenetv2_notop.weights.h5"
    damaged.write_bytes(b"no weights")
    settings = workers_settings(phantoms, tmp_path / "weights")
    with pytest.raises(Exception, match="mobilenetv2"):
        workers.compute_features_apart(settings, [], cache=tmp_path, workers=2, progress=False)


def workers_settings(phantoms: Path, weights: Path) -> Any:
    from sonoedge.train.records.settings import TrainSettings

    return TrainSettings(str(phantoms), weights=str(weights), backbones="mobilenetv2", input_size=64)


class KilledPool:
    """A pool whose workers were killed, as by a machine that is out of memory."""

    def __init__(self, *arguments: object, **more: object) -> None:
        pass

    def __enter__(self) -> KilledPool:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, *arguments: object) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool("killed"))
        return future


def test_the_training_process_does_what_killed_workers_left(
    sonoedge: Run, tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ProcessPoolExecutor", KilledPool)
    command = ["train", "--data", phantoms, "--weights", "none", "--backbones", "tiny_a", "--input-size", 32]
    command += ["--quiet", "--augment", 0, "--workers", 2, "--cache", tmp_path / "cache", "--out", tmp_path / "run"]
    found = sonoedge(*command)
    assert found.code == 0, found.err
    assert "a worker ended early" in found.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["pipeline"]["images_computed"] == 48


def test_no_workers_are_too_few(sonoedge: Run, phantoms: Path, tmp_path: Path) -> None:
    found = sonoedge("train", "--data", phantoms, "--workers", 0, "--out", tmp_path / "run")
    assert found.code == 2
    assert "--workers" in found.err
