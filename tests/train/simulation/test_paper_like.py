"""``sonoedge paper-like``: copies named and made as in the paper's data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.data.grouping import source_key
from sonoedge.train.simulation.paper_like import MAX_FILES, copy_names, copy_of
from tests.helpers.commands import Result

Run = Callable[..., Result]


def test_names_are_those_of_the_published_set() -> None:
    names = copy_names(MAX_FILES)
    assert len(set(names)) == MAX_FILES
    assert names[:4] == ["", "-sharpened", "-rotated1", "-rotated1-sharpened"]
    assert {source_key(f"benign (36){name}.png") for name in names} == {"benign (36)"}


def test_copies_are_turned_and_sharpened() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    same = copy_of(image, "", np.random.default_rng(1))
    np.testing.assert_array_equal(same, image)
    assert not np.array_equal(copy_of(image, "-sharpened", np.random.default_rng(1)), image)
    turned = copy_of(image, "-rotated2", np.random.default_rng(1))
    assert turned.shape == image.shape
    assert not turned[0, 0].any() or not turned[0, -1].any()  # a corner that was not in the source


def test_the_set_splits_by_source_with_and_without_its_groups(
    sonoedge: Run, phantoms: Path, tmp_path: Path
) -> None:
    command = ["paper-like", "--data", phantoms, "--sources", 10, "--files", 5, "--size", 96]
    assert sonoedge(*command, "--out", tmp_path / "a").code == 0
    assert sonoedge(*command, "--out", tmp_path / "b", "--without-groups").code == 0
    with_groups, without = load_dataset(tmp_path / "a"), load_dataset(tmp_path / "b")
    assert len(with_groups) == len(without) == 50
    # Views of one case share a group; by name alone only the copies of one file do.
    assert 5 <= len(set(with_groups.groups)) <= len(set(without.groups)) == 10
    for path in (tmp_path / "a").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
        with Image.open(path) as picture:
            assert picture.size == (96, 96)
    again = sonoedge(*command, "--out", phantoms)
    assert again.code == 2
    assert "paper_like.json" in again.err


def test_bad_numbers(sonoedge: Run, phantoms: Path, tmp_path: Path) -> None:
    command = ["paper-like", "--data", phantoms, "--out", tmp_path / "x"]
    assert sonoedge(*command, "--files", 19).code == 2
    too_many = sonoedge(*command, "--sources", 1000)
    assert too_many.code == 3
    assert "48 source images" in too_many.err
