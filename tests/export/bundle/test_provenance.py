"""A bundle tells how its model was trained, and not where anybody's files lay."""

from __future__ import annotations

import json
from pathlib import Path

from sonoedge.export.bundle.pipeline import _training
from sonoedge.train.data.split import Split, SplitEntry
from sonoedge.train.evaluation.run_folder import Run
from sonoedge.train.records.settings import TrainSettings
from tests.helpers.measured_runs import run_card


def test_no_local_path_reaches_the_bundle(tmp_path: Path) -> None:
    secret = "/home/dr_smith/study"
    settings = TrainSettings(
        f"{secret}/data", weights=f"{secret}/weights", split=f"{secret}/split.json", groups=f"{secret}/groups.csv",
        sweep=f"{secret}/sweep.toml", seed=7,
    )  # fmt: skip
    entry = SplitEntry("benign/a.png", "0" * 64, 0, "a", "train")
    split = Split(
        data_root=f"{secret}/data", labels=("benign", "malignant"), strategy="grouped", seed=7,
        fractions=(0.7, 0.15, 0.15), entries=(entry,),
    )  # fmt: skip
    training = _training(Run(tmp_path, run_card(settings), split))
    assert "dr_smith" not in json.dumps(training)
    assert training["settings"]["split"] == "grouped"
    assert training["settings"]["seed"] == 7
