"""``train --sweep``: combinations from a file, chosen on validation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.fitting.sweep import read_sweep
from sonoedge.train.models.fusion import load_model
from tests.helpers.commands import Result

Run = Callable[..., Result]


def test_combinations(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text("learning_rate = [1e-3, 1e-4]\nbatch_size = [16]\nunits = [8, 16, 8]\nbalanced = [true]\n")
    points = read_sweep(path)
    assert len(points) == 4
    assert {(units, fit.learning_rate, fit.batch_size, fit.balanced) for units, fit in points} == {
        (units, rate, 16, True) for units in (8, 16) for rate in (1e-3, 1e-4)
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate = [", "Cannot read"),
        ("rate = [1e-3]", "names rate"),
        ("units = 8", "units must be a list"),
        ("units = []", "units must be a list"),
        ("units = [true]", "units must be a list"),
        ("batch_size = [0]", "batch_size must be"),
        ('learning_rate = ["fast"]', "learning_rate must be"),
        (f"units = {list(range(1, 1002))}", "at most 1000"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_sweep(path)


@pytest.mark.slow
def test_the_best_on_validation_is_trained(
    sonoedge: Run, tiny_backbones: tuple[str, str], phantoms: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "sweep.toml", tmp_path / "run"
    path.write_text("learning_rate = [1e-2, 1e-5]\nunits = [4, 6]\nepochs = [3]\n")
    command = ["train", "--data", phantoms, "--weights", "none", "--backbones", "tiny_a", "--input-size", 32]
    found = sonoedge(*command, "--sweep", path, "--quiet", "--out", out)
    assert found.code == 0, found.err
    assert "sweep: 4 combinations" in found.out
    card = json.loads((out / "run.json").read_text())
    best = max(card["sweep"], key=lambda point: (point["val_auc"], -point["val_loss"]))
    assert card["settings"]["units"] == [best["units"]]
    assert card["chosen_fit"] == best["fit"]
    # What the search saw is what was trained.
    assert card["candidates"][0]["val_auc"] == pytest.approx(best["val_auc"])
    assert load_model(out).get_layer("fc1").units == best["units"]
    assert (out / "sweep.md").read_text().count("\n|") == 5
    assert (out / "sweep.png").stat().st_size > 1000
    paper = sonoedge(*command, "--sweep", path, "--protocol", "paper", "--out", tmp_path / "x")
    assert paper.code == 2
