"""``sonoedge cross-validate`` with tiny backbones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

from sonoedge.benchmarks.experiments.cross_validation import Line, Pair, page
from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.evaluation.fold_auc import mean_fold_auc, paired_fold_auc_difference
from sonoedge.train.evaluation.intervals import UNDEFINED, Interval
from sonoedge.train.evaluation.metrics import classification_metrics, paired_mean_difference
from sonoedge.train.experiments import cross_validation
from sonoedge.train.experiments.cross_validation import make_folds
from sonoedge.train.experiments.rows import ROWS, Row, parse_rows
from sonoedge.train.records.settings import FitSettings
from sonoedge.train.simulation.paper_like import write_paper_like
from tests.helpers.commands import Result

Run = Callable[..., Result]


@pytest.fixture
def tiny_rows(tiny_backbones: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    fits = (FitSettings(1e-2, 32, epochs=2, patience=2),)
    for name in list(ROWS):
        monkeypatch.delitem(ROWS, name)
    both = {"backbones": "tiny_a,tiny_b", "fits": fits, "units": (8,)}
    monkeypatch.setitem(ROWS, "plain", Row("plain", "Plain", both))
    tuned = {**both, "augment": 1, "fine_tune": "tiny_b/last", "fine_tune_epochs": 1}
    monkeypatch.setitem(ROWS, "tuned", Row("tuned", "Tuned", tuned))


@pytest.mark.parametrize("split", ["grouped", "paper"])
def test_folds_test_every_image_once_and_keep_groups_whole(phantoms: Path, split: str) -> None:
    dataset = load_dataset(phantoms)
    folds = make_folds(dataset, 4, split, seed=1)  # type: ignore[arg-type]
    tested = [sample.relative_path for fold in folds for sample in fold["test"].samples]
    assert sorted(tested) == [sample.relative_path for sample in dataset.samples]
    shared = 0
    for fold in folds:
        paths = [sample.relative_path for part in fold.values() for sample in part.samples]
        assert sorted(paths) == [sample.relative_path for sample in dataset.samples]
        assert all(set(part.y.tolist()) == {0, 1} for part in fold.values())
        shared += len(set(fold["train"].groups) & set(fold["test"].groups))
    assert (shared == 0) == (split == "grouped")


@pytest.mark.slow
def test_table_of_rows_and_leak_goes_on_after_the_last_fold(
    sonoedge: Run, tiny_rows: None, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    write_paper_like(load_dataset(phantoms), data, sources=24, files=3, size=40)
    out = tmp_path / "out"
    command = ["cross-validate", "--data", data, "--weights", "none", "--input-size", 32, "--folds", 2, "--quiet"]
    command += ["--out", out, "--split", "grouped,paper", "--feature-cache", tmp_path / "cache"]
    ran = []
    whole = cross_validation._run

    def counted(*arguments: object) -> dict:
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append(arguments)
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cross_validation, "_run", counted)
    assert sonoedge(*command, "--rows", "plain").code == 130
    assert not (out / "ablation.json").exists()
    ran.clear()
    assert sonoedge(*command, "--rows", "plain").code == 0
    assert len(ran) == 1
    monkeypatch.setattr(cross_validation, "_run", whole)
    found = sonoedge(*command, "--split", "grouped", "--json")
    assert found.code == 0, found.err
    both = json.loads(found.out)
    assert [row["row"] for row in both["rows"]] == ["plain", "tuned"]
    assert [(pair["first"], pair["second"]) for pair in both["pairs"]] == [("plain", "tuned")]
    assert sonoedge(*command, "--rows", "plain").code == 0
    result = json.loads((out / "ablation.json").read_text())
    dataset = load_dataset(data)
    assert result["images"] == [sample.relative_path for sample in dataset.samples]
    for row, part in zip(result["rows"], result["out_of_fold"], strict=True):
        auc = classification_metrics(dataset.y, part["logits"])["auc"].value
        assert row["auc"]["value"] == pytest.approx(auc)
        assert len(row["fold_aucs"]) == 2
        assert row["mean_auc"]["value"] == pytest.approx(np.mean(row["fold_aucs"]))
    aucs = [row["mean_auc"]["value"] for row in result["rows"]]
    leak = {pair["metric"]: pair["difference"]["value"] for pair in result["pairs"]}
    assert leak["AUC"] == pytest.approx(aucs[1] - aucs[0])
    accuracies = [row["accuracy"]["value"] for row in result["rows"]]
    assert leak["accuracy"] == pytest.approx(accuracies[1] - accuracies[0])
    assert "not a medical device" in (out / "ablation.html").read_text().casefold()
    assert "random split" in (out / "ablation.md").read_text()


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--rows", "nothing"], 2, "--rows takes"),
        (["--split", "patient"], 2, "--split takes"),
        (["--folds", 1], 2, "--folds must be"),
        (["--folds", 30], 3, "30 folds need at least 30 groups"),
    ],
)
def test_bad_arguments(
    sonoedge: Run, tiny_rows: None, phantoms: Path, tmp_path: Path, more: list[object], code: int, words: str
) -> None:
    command = ["cross-validate", "--data", phantoms, "--weights", "none", "--out", tmp_path / "x", "--quiet"]
    found = sonoedge(*command, *more)
    assert found.code == code
    assert words in found.err


def test_all_rows_on_frozen_features_are_the_default() -> None:
    assert set(ROWS) - set(parse_rows(None)) == {name for name in ROWS if name.startswith("compact")}
    assert all(name == row.name for name, row in ROWS.items())


def test_paired_means_by_group() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(rng.integers(0, 2, 60), 4)
    groups = np.repeat(np.arange(60), 4).astype(str).tolist()
    first = np.repeat(rng.random(60) < 0.7, 4)
    second = np.repeat(rng.random(60) < 0.8, 4)
    grouped = paired_mean_difference(first, second, y, groups)
    alone = paired_mean_difference(first, second, y)
    assert grouped.value == pytest.approx(second.mean() - first.mean())
    # Four copies of one image say no more than one.
    assert grouped.high - grouped.low > 1.6 * (alone.high - alone.low)
    same = paired_mean_difference(first, first, y, groups)
    assert same.low < 0 == same.value < same.high


def test_the_mean_of_folds_does_not_depend_on_their_scales() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    fold = np.arange(200) % 5
    logits = y + rng.normal(size=200)
    groups = [str(i // 2) for i in range(200)]
    mean = mean_fold_auc(y, logits, fold, groups)
    expected = [classification_metrics(y[fold == k], logits[fold == k])["auc"].value for k in range(5)]
    assert mean.value == pytest.approx(np.mean(expected))
    assert mean.low < mean.value < mean.high
    scaled = logits * (1 + fold) - 3 * fold
    assert mean_fold_auc(y, scaled, fold, groups) == mean
    assert paired_fold_auc_difference(y, (logits, fold), (scaled, fold), groups).value == pytest.approx(0)
    worse = paired_fold_auc_difference(y, (logits, fold), (rng.normal(size=200), fold), groups)
    assert worse.high < 0
    alone = classification_metrics(y, scaled)["auc"].value
    assert alone < mean.value  # pooled, the scales of the folds get in the way


def test_text_stays_text_on_the_page() -> None:
    attack = "\"><script>alert(1)</script> & '{{ 7 * 7 }}'"
    found = Interval(0.9, 0.85, 0.95)
    line = Line(attack, attack, attack, found, found, (0.9,), None, *[found] * 3, UNDEFINED, 0.1)
    text = page([line], [Pair(attack, attack, "AUC", found)], attack)
    assert text.count("<script>") == 1 and "49" not in text.split()
    assert text.count(str(escape(attack))) > 10
    assert 'href="#comparisons"' in text and 'href="#comparisons"' not in page([line], [], "")
