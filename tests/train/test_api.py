"""``from sonoedge.train import …``: the commands, from Python."""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sonoedge.train as package
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train import api
from sonoedge.train.callbacks import EpochEnded, Event, FeaturesComputed, RunFinished
from sonoedge.train.commands import audit, distill, score, slim, train
from sonoedge.train.config.options import OPTIONS
from tests.helpers.commands import Result
from tests.helpers.places import ROOT

Run = Callable[..., Result]
TINY: dict[str, Any] = {"weights": "none", "backbones": "tiny_a,tiny_b", "input_size": 32, "units": 8}
PAPER: dict[str, Any] = {**TINY, "protocol": "paper", "epochs": 3, "batch_size": 8, "learning_rate": 0.03}
OF_THE_COMMAND = {"help", "json", "progress"}


@pytest.mark.tensorflow
def test_public_names_exist_and_are_complete() -> None:
    assert package.__all__ == sorted(package.__all__) == sorted(package._PLACES)
    for name in package.__all__:
        assert getattr(package, name).__doc__
    assert set(package.__all__) <= set(dir(package))
    verbs = {n for n, f in vars(api).items() if inspect.isfunction(f) and f.__module__ == api.__name__}
    assert {name for name in verbs if not name.startswith("_")} <= set(package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        _ = package.fit


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys; from sonoedge.train import train, audit, distill, slim, score; "
        "print([name for name in ('tensorflow', 'keras', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", [train, audit, distill, slim, score], ids=lambda module: module.__name__)
def test_the_function_has_the_options_of_the_command_and_their_defaults(command: Any) -> None:
    name = command.__name__.rpartition(".")[2]
    parser = argparse.ArgumentParser()
    import_module(command.__name__).add_arguments(parser)
    options = {
        action.dest: action
        for action in parser._actions
        if action.dest not in OF_THE_COMMAND and action.help != argparse.SUPPRESS
    }
    options.pop("print_config", None)
    if name == "score":
        options["run"] = options.pop("model")  # what the other commands call the run that they are given
    parameters = dict(inspect.signature(getattr(api, name)).parameters)
    assert parameters.pop("progress").default is False
    parameters.pop("callbacks", None)
    assert parameters.keys() == options.keys()
    for key, parameter in parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.default == options[key].default, key


def test_every_option_of_train_has_its_values() -> None:
    assert inspect.signature(api.train).parameters.keys() - {"config", "callbacks", "progress"} == OPTIONS.keys()


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_run_is_repeated_from_its_folder(
    tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(phantoms.parent)  # a relative path, which the run must outlive
    run = package.train(phantoms.name, **PAPER, seed=3, augment=1, out=tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    again = package.train(config=run, out=tmp_path / "two")
    assert np.array_equal(logits(run), logits(again)) and np.ptp(logits(run)) > 0
    assert again.card.settings == run.card.settings
    assert again.split == run.split
    assert run.card.chosen_fit.epochs == 3 and len(run.card.history["loss"]) == 3
    other = package.train(config=tmp_path / "one" / "run.json", seed=4, out=tmp_path / "three")
    assert other.card.settings.seed == 4 and not np.array_equal(logits(run), logits(other))


def logits(run: Any) -> np.ndarray:
    rows = (Path(run) / "predictions.csv").read_text().splitlines()[1:]
    return np.array([float(row.rpartition(",")[2]) for row in sorted(rows)])


@pytest.mark.tensorflow
def test_other_images_are_worth_a_warning(
    tiny_backbones: tuple[str, str],
    phantoms: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    run = package.train(data, **TINY, out=tmp_path / "one")
    table = (data / "images.csv").read_text().splitlines()
    gone = next(line for line in table[1:] if "_b.png" in line)
    (data / "images.csv").write_text("\n".join(line for line in table if line != gone) + "\n")
    next(data.rglob(Path(gone.split(",")[0]).name)).unlink()
    with caplog.at_level(logging.WARNING, logger="sonoedge"):
        package.train(config=run, out=tmp_path / "two")
        package.train(config=run, data=data, out=tmp_path / "three")
    assert sum("not those of the run that is repeated" in message for message in caplog.messages) == 1


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_sweep_is_repeated_without_its_file(
    tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path
) -> None:
    grid = tmp_path / "sweep.toml"
    grid.write_text("learning_rate = [1e-2, 1e-3]\nunits = [4, 6]\nepochs = [3]\n")
    options = {name: value for name, value in TINY.items() if name != "units"}
    run = package.train(phantoms, **options, sweep=grid, out=tmp_path / "one")
    grid.unlink()
    again = package.train(config=run, out=tmp_path / "two")
    assert np.array_equal(logits(run), logits(again))
    assert len(run.card.sweep) == 4 and again.card.sweep == ()


@pytest.mark.tensorflow
def test_callbacks_hear_of_features_epochs_and_the_end(
    tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import keras

    heard: list[Event] = []
    seen: list[int] = []
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    more = {"fine_tune": "tiny_b/last", "fine_tune_epochs": 2, "cache": tmp_path / "cache"}
    with caplog.at_level(logging.INFO, logger="sonoedge"):
        run = package.train(
            phantoms, **PAPER, **more, out=tmp_path / "run", log="csv", callbacks=[heard.append, count]
        )
    features = [event for event in heard if isinstance(event, FeaturesComputed)]
    assert features[0].total == 48 and any(event.done == event.total for event in features)
    epochs = [(event.stage, event.epoch, event.epochs) for event in heard if isinstance(event, EpochEnded)]
    assert epochs == [("head", n, 3) for n in (1, 2, 3)] + [("fine-tune", n, 2) for n in (1, 2)]
    assert seen == [0, 1, 2, 0, 1]
    assert heard[-1] == RunFinished(tmp_path / "run", run.card)
    assert any("wrote" in message for message in caplog.messages)
    assert (tmp_path / "run" / "history.csv").read_text().count("\n") == 6


@pytest.mark.tensorflow
def test_what_a_callback_raises_ends_the_training_and_leaves_nothing(
    tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, EpochEnded):
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        package.train(phantoms, **PAPER, out=tmp_path / "runs" / "mine", callbacks=[stop])
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.tensorflow
def test_a_run_is_a_path(tiny_run: Path) -> None:
    run = package.open_run(tiny_run)
    assert os.fspath(run) == str(tiny_run) and Path(run) == tiny_run
    assert package.open_run(run) == run
    assert run.model_path.is_file() and run.metrics["test"].keys() >= {"auc", "accuracy"}
    assert 0 < run.threshold < 1


def test_options_are_checked_before_anything_is_imported_or_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--dropout must be a number"):
        package.train("nowhere", protocol="paper", dropout="high")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--learning-rate does nothing here"):
        package.train("nowhere", learning_rate=1e-3)
    with pytest.raises(UsageError, match="--batch-size must be from"):
        package.distill("nowhere", "nowhere", batch_size=0, out=tmp_path / "run")
    (tmp_path / "run.json").write_text("{}")
    for call in (
        lambda: package.train("nowhere", out=tmp_path),
        lambda: package.distill("nowhere", "nowhere", out=tmp_path),
        lambda: package.slim("nowhere", "nowhere", out=tmp_path),
    ):
        with pytest.raises(UsageError, match="holds a finished run"):
            call()


def test_the_command_repeats_prints_and_refuses(sonoedge: Run, tmp_path: Path) -> None:
    printed = sonoedge("train", "--data", "images", "--protocol", "paper", "--epochs", 3, "--print-config")
    assert printed.code == 0
    path = tmp_path / "run.yaml"
    path.write_text(printed.out)
    assert sonoedge("train", "--config", path, "--print-config").out == printed.out
    refused = sonoedge("train", "--config", path, "--protocol", "default")
    assert refused.code == 2 and f"{path}: epochs does nothing here" in refused.err
    path.write_text("data: images\nepoch: 3\n")
    unknown = sonoedge("train", "--config", path)
    assert unknown.code == 2 and "The nearest known one is epochs." in unknown.err
    path.with_suffix(".json").write_text(json.dumps({"threshold": 0.5, "settings": {}}))
    earlier = sonoedge("train", "--config", path.with_suffix(".json"))
    assert earlier.code == 3 and "earlier version of SonoEdge" in earlier.err
