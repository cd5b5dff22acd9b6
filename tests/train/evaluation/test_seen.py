"""What a run has seen is found by its bytes and by what it shows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from PIL import Image, ImageFilter

from sonoedge.train.data.dataset import Dataset, load_dataset
from sonoedge.train.data.split import make_split
from sonoedge.train.evaluation.run_folder import Run
from sonoedge.train.evaluation.seen import find_seen
from sonoedge.train.experiments import scoring
from sonoedge.train.records.reader import record_text
from sonoedge.train.records.settings import TrainSettings
from sonoedge.train.simulation.phantoms import generate_phantoms
from tests.helpers.measured_runs import run_card


@pytest.fixture(scope="module")
def run(phantoms: Path) -> Run:
    return Run(Path("run"), run_card(TrainSettings("data")), make_split(load_dataset(phantoms)))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, run: Run, phantoms: Path) -> Dataset:
    """Phantoms of another seed, and of each class one training image as it is, sharpened copies of another, and a
    turned copy of a test image."""
    folder = generate_phantoms(tmp_path_factory.mktemp("mixed") / "data", cases_per_class=3, seed=9)
    (folder / "images.csv").unlink()
    shutil.rmtree(folder / "masks")
    for label, name in enumerate(run.split.labels):
        entries = [entry for entry in run.split.entries if entry.label == label]
        first, second = [phantoms / e.relative_path for e in entries if e.subset == "train"][:3:2]
        test = next(phantoms / e.relative_path for e in entries if e.subset == "test")
        shutil.copy(first, folder / name / "same.png")
        with Image.open(second) as picture:
            larger = picture.resize((picture.width * 5 // 4, picture.height * 5 // 4))
            larger.filter(ImageFilter.SHARPEN).save(folder / name / "copy-sharpened.png")
            picture.rotate(8, Image.Resampling.BICUBIC).save(folder / name / "copy-turned.png")
        with Image.open(test) as picture:
            picture.rotate(8, Image.Resampling.BICUBIC).save(folder / name / "of-test.png")
    return load_dataset(folder, group_by="none")


def names(dataset: Dataset, rows: frozenset[int]) -> set[str]:
    return {Path(dataset.samples[row].relative_path).name for row in rows}


def test_copies_of_what_was_trained_on_are_seen(run: Run, mixed: Dataset) -> None:
    seen = find_seen(run, mixed)
    assert names(mixed, seen.identical) == {"same.png"}
    assert names(mixed, seen.copies) == {"copy-sharpened.png", "copy-turned.png"}
    assert len(seen.rows) == 6
    assert seen.not_compared == 0


def test_what_cannot_be_compared_is_counted(run: Run, mixed: Dataset, tmp_path: Path) -> None:
    moved = replace(run, split=structs.replace(run.split, data_root=str(tmp_path)))
    seen = find_seen(moved, mixed)
    known = sum(entry.subset != "test" for entry in run.split.entries)
    assert names(mixed, seen.identical) == {"same.png"}
    assert not seen.copies
    assert seen.not_compared == known - 2


def test_copies_are_not_scored(run: Run, mixed: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[Dataset] = []

    def logits(_: Run, dataset: Dataset, *rest: object, **more: object) -> np.ndarray:
        scored.append(dataset)
        return dataset.y - 0.5 + np.linspace(0, 1, len(dataset))

    monkeypatch.setattr(scoring, "logits_of", logits)
    result = scoring.score_run(replace(run, path=tmp_path), mixed, None, cache=tmp_path, progress=False)
    left = {Path(sample.relative_path).name for sample in scored[0].samples}
    assert not left & {"same.png", "copy-sharpened.png", "copy-turned.png"}
    assert "of-test.png" in left
    assert (result.images, result.left_out_as_seen, result.left_out_as_copies) == (14, 6, 4)
    assert (tmp_path / scoring.SCORINGS).read_text() == record_text(result, indent=None)
    text = scoring.render(result)
    assert "6 images left out that the run has seen, 4 of them as copies" in text
