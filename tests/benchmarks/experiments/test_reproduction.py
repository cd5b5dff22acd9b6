"""``sonoedge reproduce`` with tiny backbones: two with weights, one without."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import pytest

from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.evaluation.metrics import classification_metrics, sigmoid
from sonoedge.train.experiments import reproduction
from sonoedge.train.experiments.reproduction import mean_probability, subsample
from sonoedge.train.experiments.systems import PROPOSED, SYSTEMS, System
from sonoedge.train.models.backbones import build_branch
from sonoedge.train.records.settings import FitSettings
from tests.helpers.commands import Result

Run = Callable[..., Result]


@pytest.fixture
def tiny_systems(tiny_backbones: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Three systems in place of the paper's, a weights folder that lacks ``tiny_b``, and short fits."""
    first, second = tiny_backbones
    short = FitSettings(1e-2, 32, epochs=2, patience=2)
    monkeypatch.setattr(reproduction, "DEFAULT_GRID", (short,))
    monkeypatch.setattr("sonoedge.train.fitting.heads.PAPER", short)
    for key in list(SYSTEMS):
        monkeypatch.delitem(SYSTEMS, key)
    monkeypatch.setitem(SYSTEMS, PROPOSED, System("Both", (first, second), published={"auc": 0.9999}))
    monkeypatch.setitem(SYSTEMS, "alone", System("A alone", (first,)))
    monkeypatch.setitem(SYSTEMS, "mean", System("Mean", (first, second), "probabilities", note="A note."))
    folder = tmp_path / "weights"
    folder.mkdir()
    keras.utils.set_random_seed(4)
    model, _ = build_branch(first, keras.Input((32, 32, 3)), weights="none")
    model.save_weights(folder / f"{first}_notop.weights.h5")
    return folder


class Text(HTMLParser):
    """Checks that elements are closed in order, and keeps the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        return None

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.slow
def test_reproduce_writes_page_and_results_and_goes_on_where_it_was(
    sonoedge: Run, tiny_systems: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "again"
    command = [
        "reproduce",
        "--data",
        phantoms,
        "--weights",
        tiny_systems,
        "--input-size",
        32,
        "--out",
        out,
        "--quiet",
    ]
    command += ["--untrained-images", 30, "--cache", tmp_path / "cache"]
    asked = []
    whole = reproduction._Lab.run

    def interrupted(self: object, system: str, protocol: str) -> object:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append((system, protocol))
        return whole(self, system, protocol)

    monkeypatch.setattr(reproduction._Lab, "run", interrupted)
    stopped = sonoedge(*command)
    assert stopped.code == 130
    assert not (out / "reproduction.html").exists()
    assert len(list((out / "units").iterdir())) == 3
    # A damaged unit is not believed.
    (out / "units" / "alone.paper.json").write_text("{")
    done = list(asked)
    asked.clear()
    monkeypatch.setattr(reproduction._Lab, "run", lambda *a: (asked.append(a[1:]), whole(*a))[1])
    finished = sonoedge(*command)
    assert finished.code == 0, finished.err
    assert ("alone", "paper") in asked
    assert asked[0] == ("alone", "paper")
    assert set(done) & set(asked) == {("alone", "paper")}
    asked.clear()
    assert sonoedge(*command).code == 0
    assert not asked

    result = json.loads((out / "reproduction.json").read_text())
    units = {(unit["system"], unit["protocol"]): unit for unit in result["units"]}
    assert len(units) == 6
    assert units["alone", "honest"]["sources"] == {"tiny_a": "file"}
    assert sum(units["alone", "honest"]["images"].values()) == 48
    assert units[PROPOSED, "honest"]["sources"] == {"tiny_a": "file", "tiny_b": "none"}
    assert 30 <= sum(units[PROPOSED, "honest"]["images"].values()) < 36
    assert not units["mean", "paper"]["trained"]
    assert len(units["mean", "paper"]["histories"]) == 2
    assert units["alone", "honest"]["leaks"] == 0
    # The proposed system is untrained here, so nothing may be compared with it.
    assert result["comparisons"] == []
    for unit in units.values():
        y, logits = np.array(unit["y"]), np.array(unit["logits"])
        right = np.mean((sigmoid(logits) >= unit["threshold"]) == y)
        assert unit["metrics"]["accuracy"]["value"] == pytest.approx(right)
    page = Text()
    page.feed((out / "reproduction.html").read_text())
    assert page.open == []
    for words in (
        "A alone",
        "published 0.9999",
        "untrained",
        "No trained weights",
        "1,804",
        "not a medical device",
    ):
        assert words.casefold() in page.text.casefold()
    assert "| A alone |" in (out / "reproduction.md").read_text()


@pytest.mark.slow
def test_trained_systems_are_compared(
    sonoedge: Run, tiny_systems: Path, phantoms: Path, tmp_path: Path, tiny_backbones: tuple[str, str]
) -> None:
    keras.utils.set_random_seed(5)
    model, _ = build_branch(tiny_backbones[1], keras.Input((32, 32, 3)), weights="none")
    model.save_weights(tiny_systems / f"{tiny_backbones[1]}_notop.weights.h5")
    out = tmp_path / "again"
    found = sonoedge(
        "reproduce", "--data", phantoms, "--weights", tiny_systems, "--input-size", 32, "--systems",
        f"{PROPOSED},alone", "--out", out, "--quiet", "--json",
    )  # fmt: skip
    assert found.code == 0, found.err
    result = json.loads(found.out)
    assert [pair["system"] for pair in result["comparisons"]] == ["alone", "alone"]
    units = {(unit["system"], unit["protocol"]): unit for unit in result["units"]}
    for pair in result["comparisons"]:
        ours, other = units[PROPOSED, pair["protocol"]], units["alone", pair["protocol"]]
        auc = [classification_metrics(u["y"], u["logits"])["auc"].value for u in (ours, other)]
        assert pair["difference"]["value"] == pytest.approx(auc[0] - auc[1])
        assert ours["test_images"] == other["test_images"]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--systems", "vgg99"], 2, "--systems takes"),
        (["--untrained-images", -1], 2, "--untrained-images must be"),
        (["--weights", "nowhere"], 6, "No such folder"),
        (["--data", "nowhere"], 3, "does not exist"),
    ],
)
def test_bad_arguments(
    sonoedge: Run, phantoms: Path, tmp_path: Path, more: list[object], code: int, words: str
) -> None:
    found = sonoedge("reproduce", "--data", phantoms, "--weights", "none", "--out", tmp_path / "x", *more)
    assert found.code == code
    assert words in found.err


def test_subsample_keeps_groups_whole_and_both_classes(phantoms: Path) -> None:
    dataset = load_dataset(phantoms)
    few = subsample(dataset, 11, seed=3)
    assert 11 <= len(few) <= 14
    assert set(few.y.tolist()) == {0, 1}
    for group in set(few.groups):
        assert few.groups.count(group) == dataset.groups.count(group)
    assert subsample(dataset, 0, seed=3) is dataset
    assert subsample(dataset, 11, seed=3).samples == few.samples


def test_mean_probability_is_the_mean() -> None:
    a, b = np.array([-3.0, 0.0, 800.0]), np.array([1.0, 2.0, 900.0])
    np.testing.assert_allclose(sigmoid(mean_probability([a, b])), (sigmoid(a) + sigmoid(b)) / 2, atol=1e-9)
    np.testing.assert_array_equal(mean_probability([a]), a)
