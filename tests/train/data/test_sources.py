"""Several sources: folders side by side, one CSV over all, and what must not be mixed."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.train.data.sources import load_sources, scan_sources
from sonoedge.train.data.split import apply_split, make_split, path_of, read_split, write_split
from tests.helpers.data_folders import write_csv, write_folders, write_image

HEADER = ("image", "label", "source")


@pytest.fixture
def hospitals(tmp_path: Path) -> list[Path]:
    """Two folders with images of the same names and different contents."""
    return [
        write_folders(tmp_path / name, {"benign": 6, "malignant": 4}, first_seed=seed)
        for name, seed in (("north", 0), ("south", 500))
    ]


def test_every_image_says_where_it_comes_from(hospitals: list[Path]) -> None:
    data = load_sources(hospitals)
    assert data.sources == ("north", "south")
    assert data.name == "north + south"
    assert len(data) == len({sample.relative_path for sample in data.samples}) == 20
    first = data.samples[0]
    assert (first.relative_path, first.source) == ("north/benign/benign_0.png", "north")
    assert first.group.startswith("north/")
    assert first.path == hospitals[0] / "benign" / "benign_0.png"


def test_one_folder_has_no_source(hospitals: list[Path]) -> None:
    data = load_sources(hospitals[0])
    assert data.sources == ("",)
    assert data.samples[0].relative_path == "benign/benign_0.png"


def test_one_csv_over_all_sources(hospitals: list[Path], tmp_path: Path) -> None:
    images = sorted(path for folder in hospitals for path in folder.rglob("*.png"))
    rows = [[str(p.relative_to(tmp_path)), p.parent.name, p.relative_to(tmp_path).parts[0]] for p in images]
    write_csv(tmp_path / "images.csv", HEADER, rows)
    data = load_sources(tmp_path)
    assert Counter(sample.source for sample in data.samples) == {"north": 10, "south": 10}


def test_a_split_divides_every_class_of_every_source(hospitals: list[Path], tmp_path: Path) -> None:
    data = load_sources(hospitals)
    split = make_split(data)
    for source in data.sources:
        for label in (0, 1):
            subsets = {e.subset for e in split.entries if e.source == source and e.label == label}
            assert subsets == {"train", "val", "test"}
    write_split(split, tmp_path / "split.json")
    again = read_split(tmp_path / "split.json")
    assert again == split
    assert all(path_of(again, entry).is_file() for entry in again.entries)
    parts = apply_split(scan_sources(again.data_root), again)
    assert {name: part.sources for name, part in parts.items()} == dict.fromkeys(parts, ("north", "south"))


def test_an_image_in_two_sources_is_refused(hospitals: list[Path]) -> None:
    shutil.copy(hospitals[0] / "benign" / "benign_1.png", hospitals[1] / "benign" / "renamed.png")
    with pytest.raises(
        DataError, match=r"1 pairs of images of different sources .* north/benign/benign_1.png and south"
    ):
        load_sources(hospitals)


def test_an_image_in_two_sources_of_one_csv_is_refused(tmp_path: Path) -> None:
    write_folders(tmp_path, {"benign": 4, "malignant": 4})
    shutil.copy(tmp_path / "benign" / "benign_0.png", tmp_path / "benign" / "benign_9.png")
    images = sorted(tmp_path.rglob("*.png"))
    rows = [[str(p.relative_to(tmp_path)), p.parent.name, "ab"[int(p.stem[-1]) % 2]] for p in images]
    write_csv(tmp_path / "images.csv", HEADER, rows)
    with pytest.raises(DataError, match="of different sources show the same content"):
        load_sources(tmp_path)


def test_sources_must_have_the_same_classes(tmp_path: Path) -> None:
    first = write_folders(tmp_path / "first", {"benign": 2, "malignant": 2})
    second = write_folders(tmp_path / "second", {"cyst": 2, "malignant": 2}, first_seed=500)
    with pytest.raises(DataError, match=r"same classes.*first has benign, malignant; second has cyst, malignant"):
        load_sources([first, second])


def test_a_source_of_one_class_is_refused(tmp_path: Path) -> None:
    write_folders(tmp_path, {"benign": 4, "malignant": 4})
    images = sorted(tmp_path.rglob("*.png"))
    rows = [
        [str(p.relative_to(tmp_path)), p.parent.name, "south" if p.stem == "benign_3" else "north"] for p in images
    ]
    write_csv(tmp_path / "images.csv", HEADER, rows)
    with pytest.raises(DataError, match="south without malignant"):
        load_sources(tmp_path)
    write_folders(tmp_path / "other", {"benign": 2}, first_seed=900)
    with pytest.raises(DataError, match="At least two class folders"):
        load_sources([tmp_path / "other", tmp_path])


def test_what_else_is_refused(hospitals: list[Path], tmp_path: Path) -> None:
    same = write_folders(tmp_path / "elsewhere" / "north", {"benign": 2, "malignant": 2}, first_seed=700)
    with pytest.raises(UsageError, match=r"different names. Received twice: north"):
        load_sources([hospitals[0], same])
    with pytest.raises(UsageError, match="--groups is for one folder"):
        load_sources(hospitals, groups=tmp_path / "groups.csv")
    with pytest.raises(UsageError, match="at least one folder"):
        load_sources([])
    write_image(hospitals[1] / "benign" / "benign_0.png", 900)
    assert len(load_sources(hospitals)) == 20
