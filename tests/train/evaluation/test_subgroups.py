"""The images of a finished run are found again, whatever rules formed its groups; and figures by subgroup."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.data.split import SUBSETS, make_split, write_split
from sonoedge.train.evaluation.run_folder import Run, load_subsets
from sonoedge.train.evaluation.subgroups import by_column
from sonoedge.train.fitting import trainer as training
from sonoedge.train.records.settings import TrainSettings
from tests.helpers.measured_runs import run_card


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> tuple[Path, Path]:
    """A folder with an image that cannot be read and two of the same view under two labels, and a groups file.

    The default rules refuse the first and drop the other two; with ``--skip-unreadable`` and these groups both can
    be trained on.
    """
    folder = tmp_path_factory.mktemp("odd") / "data"
    for label in ("benign", "malignant"):
        shutil.copytree(phantoms / label, folder / label)
    (folder / "benign" / "broken.png").write_bytes(b"not an image")
    source = sorted((folder / "benign").glob("benign*.png"))[0]
    data = source.read_bytes()
    # Other bytes, the same pixels.
    (folder / "malignant" / "twin.png").write_bytes(data + b"\0")
    groups = folder.with_name("groups.csv")
    with groups.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "group"])
        for path in sorted(folder.rglob("*.png")):
            if path.name != "broken.png":
                relative = path.relative_to(folder).as_posix()
                writer.writerow([relative, path.stem[:-2] if path.stem != "twin" else "twin"])
    return folder, groups


@pytest.fixture(scope="module")
def run(odd: tuple[Path, Path]) -> Run:
    folder, groups = odd
    with pytest.raises(DataError):
        load_dataset(folder)
    dataset = load_dataset(folder, groups=groups, skip_unreadable=True)
    assert len(dataset) == 49
    return Run(Path("run"), run_card(TrainSettings("data")), make_split(dataset))


def test_the_subsets_are_those_of_the_run(run: Run) -> None:
    subsets = load_subsets(run)
    for subset in SUBSETS:
        wanted = [(e.relative_path, e.group) for e in run.split.entries if e.subset == subset]
        assert [(s.relative_path, s.group) for s in subsets[subset].samples] == wanted
    assert load_subsets(run, None) == subsets


def test_images_that_are_gone_are_an_error(run: Run, odd: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        load_subsets(run, tmp_path / "nowhere")
    shutil.copytree(odd[0], tmp_path / "data")
    (tmp_path / "data" / "malignant" / "twin.png").unlink()
    with pytest.raises(DataError, match=r"malignant/twin\.png \(missing\)"):
        load_subsets(run, tmp_path / "data")


def test_a_split_brings_its_own_groups(run: Run, odd: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    write_split(run.split, path)
    settings = TrainSettings(str(odd[0]), split=str(path), skip_unreadable=True)
    subsets, split, _ = training._data(settings, progress=False)
    assert split == run.split
    assert sum(len(data) for data in subsets.values()) == 49
    both = TrainSettings(str(odd[0]), split=str(path), groups=str(odd[1]))
    with pytest.raises(UsageError, match="--groups cannot be used with --split FILE"):
        training.train(both, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_rows_of_the_csv_are_found_by_path_not_by_name(phantoms: Path, tmp_path: Path) -> None:
    lines = ["image,label,group,device"]
    for label, device in (("benign", "A"), ("malignant", "B")):
        (tmp_path / label).mkdir()
        for number, path in enumerate(sorted((phantoms / label).glob("*.png"))[:4:2]):
            shutil.copy(path, tmp_path / label / f"{number}.png")
            lines.append(f"{label}/{number}.png,{label},{label}{number},{device}")
    (tmp_path / "images.csv").write_text("\n".join(lines) + "\n")
    dataset = load_dataset(tmp_path)
    members = by_column(dataset, ["device"])
    assert {name: np.unique(dataset.y[rows]).tolist() for name, rows in members.items()} == {
        "device A": [0], "device B": [1],
    }  # fmt: skip
