"""Records: what was written is read, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sonoedge.edge_runtime.errors import DataError, ModelError, SonoEdgeError
from sonoedge.train.records.reader import as_record, plain, record_text, write_record
from sonoedge.train.records.run_card import DataFacts, TrainedCard, read_card
from sonoedge.train.records.settings import FitSettings, TrainSettings, with_whole_paths, words_only
from tests.helpers.measured_runs import run_card

SETTINGS = TrainSettings("data", units=(8, 4), classes=("a", "b"), fits=(FitSettings(1e-3, 8, 3, 2),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_record(run_card(SETTINGS), tmp_path / "run.json")
    return tmp_path / "run.json"


def test_a_card_survives_its_file(path: Path) -> None:
    card = read_card(path)
    assert card == run_card(SETTINGS)
    assert isinstance(card, TrainedCard) and card.settings.fits == SETTINGS.fits
    assert json.loads(path.read_text())["kind"] == "sonoedge-run"
    assert as_record(plain(card), TrainedCard) == card


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


def test_a_card_of_an_earlier_version_says_how_to_make_it_again(path: Path) -> None:
    edit(path, lambda body: [body.pop("kind"), body.pop("schema_version")])
    with pytest.raises(
        DataError, match=r"earlier version of SonoEdge\. Train the run again: sonoedge train --data"
    ):
        read_card(path)


def test_a_card_of_a_later_version_asks_for_an_update(path: Path) -> None:
    edit(path, lambda body: body.update(schema_version=7))
    with pytest.raises(DataError, match=r"schema_version 7; this version reads 1\. Update SonoEdge"):
        read_card(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body.update(kind="sonoedge-split"), "its kind is sonoedge-split"),
        (lambda body: body.update(more=1), "unknown field `more`"),
        (lambda body: body.pop("labels"), "missing required field `labels`"),
        (lambda body: body.update(threshold="high"), r"got `str` - at `\$.threshold`"),
        (lambda body: body["settings"].update(unit=[1]), r"unknown field `unit` - at `\$.settings`"),
        (lambda body: body["settings"].update(seed=True), r"got `bool` - at `\$.settings.seed`"),
        (lambda body: body["dataset"]["images"].update(val=1.5), r"got `float` - at"),
        (lambda body: body["metrics"]["test"].update(auc=[0.5, 0.4]), "length"),
    ],
)
def test_whatever_is_not_a_card_is_refused(path: Path, change: Callable[[dict[str, Any]], Any], words: str) -> None:
    edit(path, change)
    with pytest.raises(ModelError, match=words):
        read_card(path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "{", '{"kind": 1}', '{"threshold": NaN}', "[" * 100_000])
def test_whatever_is_no_record_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(SonoEdgeError, match=r"run\.json"):
        read_card(path)


def test_a_number_that_json_does_not_have_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        record_text(as_record(plain(run_card(SETTINGS)) | {"temperature": float("nan")}, TrainedCard))


def test_own_values_are_checked_like_a_file() -> None:
    with pytest.raises(DataError, match="images"):
        as_record(plain(run_card(SETTINGS)) | {"dataset": plain(DataFacts("", (), {"val": 1.5}, 0))}, TrainedCard)  # type: ignore[dict-item]


def test_paths_become_whole_and_words_stay() -> None:
    whole = with_whole_paths(TrainSettings("data", weights="none", sweep="sweep.toml"))
    assert (whole.data, whole.sweep) == (str(Path.cwd() / "data"), str(Path.cwd() / "sweep.toml"))
    assert (whole.weights, whole.split, whole.groups) == ("none", "grouped", None)
    assert words_only(whole).keys() & {"data", "sweep", "weights", "split"} == {"weights", "split"}
