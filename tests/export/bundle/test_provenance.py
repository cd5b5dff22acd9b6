"""A bundle tells how its model was trained, and not where anybody's files lay."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from sonoedge.export.bundle.pipeline import _training
from sonoedge.train.data.split import Split, SplitEntry
from sonoedge.train.evaluation.run_folder import Run
from sonoedge.train.fitting.steps import TrainSettings


def test_no_local_path_reaches_the_bundle(tmp_path: Path) -> None:
    secret = "/home/dr_smith/study"
    settings = TrainSettings(
        f"{secret}/data", weights=f"{secret}/weights", split=f"{secret}/split.json", groups=f"{secret}/groups.csv",
        sweep=f"{secret}/sweep.toml", seed=7,
    )  # fmt: skip
    entry = SplitEntry("benign/a.png", "0" * 64, 0, "a", "train")
    split = Split(f"{secret}/data", ("benign", "malignant"), "grouped", 7, (0.7, 0.15, 0.15), (entry,))
    card = {
        "settings": {**asdict(settings), "teacher": f"{secret}/teacher"},
        "weights": {},
        "dataset": {"digest": "0", "images": {}},
        "metrics": {},
    }
    training = _training(Run(tmp_path, card, split))
    assert "dr_smith" not in json.dumps(training)
    assert training["settings"]["split"] == "grouped"
    assert training["settings"]["seed"] == 7
