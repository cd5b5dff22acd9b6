"""Subsets: no group on two sides, reproducible, strict files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.data.split import (
    SUBSETS,
    Split,
    apply_split,
    leak_count,
    make_split,
    read_split,
    subset_of,
    write_split,
)

FRACTIONS = dict(zip(SUBSETS, (0.70, 0.15, 0.15), strict=True))


def dataset_of(group_sizes: dict[int, list[int]], root: Path = Path("data")) -> Dataset:
    """A data set that exists in memory only: per label, the sizes of its groups."""
    samples = []
    for label, sizes in group_sizes.items():
        for group, size in enumerate(sizes):
            for member in range(size):
                name = f"{label}/{group:03d}_{member}.png"
                digest = hashlib.sha256(name.encode()).hexdigest()
                samples.append(Sample(root / name, name, label, f"{label}-{group}", digest, None))
    samples.sort(key=lambda sample: sample.relative_path)
    return Dataset({"": root}, tuple(f"class{label}" for label in group_sizes), tuple(samples))


SIZES = st.lists(st.integers(1, 4), min_size=3, max_size=40)


@settings(max_examples=60)
@given(st.lists(SIZES, min_size=2, max_size=3), st.integers(0, 1000))
def test_grouped_split_properties(sizes: list[list[int]], seed: int) -> None:
    data = dataset_of(dict(enumerate(sizes)))
    split = make_split(data, seed=seed)
    assert leak_count(split) == 0
    assert sorted(e.relative_path for e in split.entries) == sorted(s.relative_path for s in data.samples)
    assert split == make_split(data.select(range(len(data))[::-1]), seed=seed)
    sides: dict[str, set[str]] = {}
    for entry in split.entries:
        sides.setdefault(entry.group, set()).add(entry.subset)
    assert all(len(side) == 1 for side in sides.values())
    for label, group_sizes in enumerate(sizes):
        counts = Counter(entry.subset for entry in split.entries if entry.label == label)
        for subset, fraction in FRACTIONS.items():
            assert counts[subset] >= 1
            assert abs(counts[subset] - fraction * sum(group_sizes)) <= 2 * max(group_sizes) + 1


@given(st.integers(3, 60), st.integers(3, 60), st.integers(0, 50))
def test_paper_split_is_stratified_by_image(benign: int, malignant: int, seed: int) -> None:
    split = make_split(dataset_of({0: [benign], 1: [malignant]}), strategy="paper", seed=seed)
    for label, total in enumerate((benign, malignant)):
        counts = Counter(entry.subset for entry in split.entries if entry.label == label)
        for subset, fraction in FRACTIONS.items():
            assert counts[subset] >= 1
            assert abs(counts[subset] - fraction * total) <= 2


def test_seed_changes_the_split_and_large_groups_reach_the_test_set() -> None:
    data = dataset_of({0: [1] * 60 + [4] * 20, 1: [2] * 40})
    splits = [make_split(data, seed=seed) for seed in range(3)]
    assert len({split.entries for split in splits}) == 3
    sizes = Counter(data.groups)
    assert all(any(sizes[e.group] == 4 and e.subset == "test" for e in split.entries) for split in splits)


def test_three_groups_per_class_are_enough_and_two_are_not() -> None:
    split = make_split(dataset_of({0: [5, 5, 5], 1: [20, 1, 1]}))
    assert {(e.label, e.subset) for e in split.entries} == {(label, s) for label in (0, 1) for s in SUBSETS}
    with pytest.raises(DataError, match=r"at least 3 groups of class1 are needed\. Received: 2"):
        make_split(dataset_of({0: [1] * 5, 1: [9, 9]}))
    with pytest.raises(DataError, match=r"at least 3 images of class1 are needed\. Received: 2"):
        make_split(dataset_of({0: [1] * 5, 1: [2]}), strategy="paper")


def test_paper_split_leaks_and_the_leak_can_be_judged_by_other_groups() -> None:
    data = dataset_of({0: [4] * 10, 1: [4] * 10})
    paper = make_split(data, strategy="paper")
    held_out = sum(entry.subset != "train" for entry in paper.entries)
    assert 0 < leak_count(paper) <= held_out
    singles = {sample.relative_path: sample.relative_path for sample in data.samples}
    assert leak_count(paper, singles) == 0
    assert leak_count(make_split(data), dict.fromkeys(singles, "one")) == held_out
    assert leak_count(paper, subsets=("test",)) < leak_count(paper)


@pytest.mark.parametrize(
    "arguments",
    [
        {"strategy": "random"},
        {"fractions": (0.5, 0.5, 0.5)},
        {"fractions": (1.0, 0.0, 0.0)},
        {"fractions": (0.8, 0.2)},
        {"fractions": (float("nan"), 0.5, 0.5)},
        {"seed": -1},
    ],
)
def test_bad_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Received"):
        make_split(dataset_of({0: [1] * 5, 1: [1] * 5}), **arguments)


def test_a_group_of_two_classes_stays_on_one_side() -> None:
    data = dataset_of({0: [1] * 8, 1: [1] * 8})
    samples = tuple(
        replace(sample, group="both") if i in {0, 9} else sample for i, sample in enumerate(data.samples)
    )
    for seed in range(8):
        split = make_split(replace(data, samples=samples), seed=seed)
        assert {entry.label for entry in split.entries if entry.group == "both"} == {0, 1}
        assert len({entry.subset for entry in split.entries if entry.group == "both"}) == 1
        assert leak_count(split) == 0


@pytest.fixture
def split() -> Split:
    return make_split(dataset_of({0: [2] * 6, 1: [1] * 8}))


def test_round_trip(tmp_path: Path, split: Split) -> None:
    path = tmp_path / "run" / "split.json"
    path.parent.mkdir()
    write_split(split, path)
    assert read_split(path) == split
    assert [p.name for p in path.parent.iterdir()] == ["split.json"]


def change(document: dict[str, Any], keys: tuple[str | int, ...], value: object) -> None:
    target: Any = document
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("more",), 1, "unknown field `more`"),
        (("kind",), "sonoedge-run", "its kind is sonoedge-run"),
        (("schema_version",), 1, "has schema_version 1; this version reads 2. Make it again"),
        (("schema_version",), 3, "has schema_version 3; this version reads 2. Update SonoEdge"),
        (("strategy",), "random", r"'random' - at `\$.strategy`"),
        (("seed",), "0", r"got `str` - at `\$.seed`"),
        (("seed",), True, r"got `bool` - at `\$.seed`"),
        (("labels",), ["one"], "labels"),
        (("labels",), "ab", r"got `str` - at `\$.labels`"),
        (("fractions",), [1.0], "fractions"),
        (("entries",), {}, "entries"),
        (("entries", 0), [], "Expected `object`, got `array`"),
        (("entries", 0, "subset"), "dev", "'dev' - at"),
        (("entries", 0, "label"), 2, "unknown label"),
        (("entries", 0, "label"), True, "got `bool`"),
        (("entries", 0, "sha256"), "ABC", "sha256"),
        (("entries", 0, "group"), None, "got `null`"),
        (("entries", 0, "note"), "", "unknown field `note`"),
        (("entries", 0, "relative_path"), "../x.png", "stay in the folder"),
        (("entries", 0, "relative_path"), "/x.png", "stay in the folder"),
        (("entries", 0, "relative_path"), "./x.png", "shortest form"),
        (("entries", 0, "relative_path"), "0/000_1.png", "more than once"),
    ],
)
def test_read_split_is_strict(
    tmp_path: Path, split: Split, keys: tuple[str | int, ...], value: object, message: str
) -> None:
    path = tmp_path / "split.json"
    write_split(split, path)
    document = json.loads(path.read_text())
    change(document, keys, value)
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        read_split(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"schema_version": 1}'])
def test_read_split_of_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=r"split\.json"):
        read_split(tmp_path / "split.json")


def test_a_split_of_an_earlier_version_is_made_again(tmp_path: Path, split: Split) -> None:
    path = tmp_path / "split.json"
    write_split(split, path)
    earlier = {key: value for key, value in json.loads(path.read_text()).items() if key != "kind"}
    path.write_text(json.dumps({**earlier, "schema_version": 1}))
    with pytest.raises(DataError, match=r"earlier version of SonoEdge\. Make it again"):
        read_split(path)


def test_read_split_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Cannot read"):
        read_split(tmp_path / "split.json")


def test_apply_split_finds_moved_files_and_ignores_new_ones(split: Split) -> None:
    data = dataset_of({0: [2] * 6, 1: [1] * 8})
    moved = tuple(replace(s, relative_path=f"moved/{s.relative_path}", group="x") for s in data.samples[:5])
    new = replace(data.samples[0], relative_path="new.png", sha256="f" * 64)
    parts = apply_split(replace(data, samples=(*moved, *data.samples[5:], new)), split)
    assert list(parts) == list(SUBSETS)
    assert sum(map(len, parts.values())) == len(split.entries)
    for subset, part in parts.items():
        expected = {(e.sha256, e.label, e.group) for e in split.entries if e.subset == subset}
        assert {(s.sha256, s.label, s.group) for s in part.samples} == expected


def test_apply_split_lists_missing_changed_and_relabelled_images(split: Split) -> None:
    data = dataset_of({0: [2] * 6, 1: [1] * 8})
    changed = replace(data.samples[1], sha256="0" * 64)
    relabelled = replace(data.samples[2], label=1)
    with pytest.raises(DataError) as caught:
        apply_split(replace(data, samples=(changed, relabelled, *data.samples[3:])), split)
    message = str(caught.value)
    assert "3 of 20 images" in message
    for part in ("0/000_0.png (missing)", "0/000_1.png (changed)", "0/001_0.png (now labelled class1)"):
        assert part in message
    with pytest.raises(DataError, match="classes"):
        apply_split(replace(data, labels=("a", "b")), split)


def test_apply_split_with_two_identical_files(split: Split) -> None:
    data = dataset_of({0: [2] * 6, 1: [1] * 8})
    twins = tuple(replace(sample, sha256="a" * 64) for sample in data.samples[:2])
    data = replace(data, samples=(*twins, *data.samples[2:]))
    split = make_split(data, strategy="paper", seed=3)
    renamed = tuple(replace(s, relative_path=f"x/{s.relative_path}") for s in data.samples)
    parts = apply_split(replace(data, samples=renamed), split)
    paths = [sample.relative_path for part in parts.values() for sample in part.samples]
    assert len(paths) == len(set(paths)) == len(data)


def test_subset_of_counts_as_test_only_what_was_never_trained_on(split: Split) -> None:
    assert subset_of(split) == {entry.sha256: entry.subset for entry in split.entries}
    test = next(entry for entry in split.entries if entry.subset == "test")
    train = next(entry for entry in split.entries if entry.subset == "train")
    for pair in ((test, train), (train, test)):
        twins = tuple(structs.replace(entry, sha256="a" * 64) for entry in pair)
        assert subset_of(structs.replace(split, entries=twins)) == {"a" * 64: "train"}
