"""Train, val and test subsets, by group of copies (default) or by image as in the paper; split.json."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np

from sonoedge.edge_runtime.errors import DataError, UsageError, few
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.data.layouts import safe_relative
from sonoedge.train.data.sources import data_root
from sonoedge.train.records.reader import Record, read_record, write_record

Subset = Literal["train", "val", "test"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)
Strategy = Literal["grouped", "paper"]
_STRATEGIES = get_args(Strategy)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class SplitEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image and the subset it belongs to; ``label`` indexes `Split.labels`; ``source`` as in `Sample`."""

    relative_path: str
    sha256: str
    label: int
    group: str
    subset: Subset
    source: str = ""


class Split(Record, frozen=True, kw_only=True, tag="sonoedge-split"):
    """Assignment of images to `SUBSETS`: entries are sorted by relative path, fractions are in that order.

    ``data_root`` is the folder of the images; if there are several, each folder by the name of its source.
    """

    schema_version: Literal[2] = 2
    data_root: str | dict[str, str]
    labels: tuple[str, ...]
    strategy: Strategy
    seed: int
    fractions: tuple[float, float, float]
    entries: tuple[SplitEntry, ...]


def make_split(
    dataset: Dataset,
    *,
    strategy: Strategy = "grouped",
    fractions: tuple[float, float, float] = (0.70, 0.15, 0.15),
    seed: int = 0,
) -> Split:
    """Assign every image to train, val or test, stratified by source and class, reproducible from the seed.

    Args:
        dataset: images with their groups, such as those of `train.data.dataset.load_dataset`.
        strategy: "grouped" keeps a group on one side; "paper" shuffles single images (section III of the
            paper: 70/15/15, stratified), so copies of one source image may lie on both sides.
        fractions: shares of train, val and test; positive, with the sum 1.
        seed: not negative.

    Raises:
        UsageError: unknown strategy, fractions or seed out of range.
        DataError: a class of a source has too few groups (or images) to be in every subset.
    """
    if strategy not in _STRATEGIES:
        raise UsageError(f"The split strategy must be one of {', '.join(_STRATEGIES)}. Received: {strategy}")
    if len(fractions) != len(SUBSETS) or not (min(fractions) > 0 and abs(sum(fractions) - 1) < 1e-6):
        raise UsageError(f"Fractions must be three positive numbers with the sum 1. Received: {fractions}")
    if seed < 0:
        raise UsageError(f"The seed must not be negative. Received: {seed}")
    grouped = strategy == "grouped"
    units_of = dataset.groups if grouped else [sample.relative_path for sample in dataset.samples]
    # A patient with lesions of several classes counts for the last of them, the positive one if it is there.
    label_of: dict[str, int] = {}
    for unit, sample in zip(units_of, dataset.samples, strict=True):
        label_of[unit] = max(sample.label, label_of.get(unit, 0))
    families: defaultdict[tuple[str, int], dict[str, list[str]]] = defaultdict(dict)
    for unit, sample in zip(units_of, dataset.samples, strict=True):
        families[sample.source, label_of[unit]].setdefault(unit, []).append(sample.relative_path)
    subset_of_path: dict[str, Subset] = {}
    for number, source in enumerate(dataset.sources):
        for label, name in enumerate(dataset.labels):
            units = families[source, label]
            if len(units) < len(SUBSETS):
                raise DataError(
                    f"Every subset needs an image of each class: at least {len(SUBSETS)} "
                    f"{'groups' if grouped else 'images'} of {f'{source} {name}'.strip()} are needed. "
                    f"Received: {len(units)}"
                )
            rng = np.random.default_rng([seed, label, *([number] if number else [])])
            keys = sorted(units)
            shuffled = {keys[i]: len(units[keys[i]]) for i in rng.permutation(len(keys))}
            for key, subset in _assign(shuffled, fractions).items():
                subset_of_path.update(dict.fromkeys(units[key], subset))
    entries = (
        SplitEntry(s.relative_path, s.sha256, s.label, s.group, subset_of_path[s.relative_path], s.source)
        for s in sorted(dataset.samples, key=lambda sample: sample.relative_path)
    )
    return Split(
        data_root=data_root(dataset), labels=dataset.labels, strategy=strategy, seed=seed, fractions=fractions,
        entries=tuple(entries),
    )  # fmt: skip


def write_split(split: Split, path: str | Path) -> None:
    """Write split.json atomically: a reader sees the old file or the new one."""
    write_record(split, Path(path), indent=1)


def read_split(path: str | Path) -> Split:
    """Read split.json and refuse everything that `write_split` would not write.

    Raises:
        DataError: the file is missing, not JSON or of another version, or holds unknown or missing keys, wrong
            types, an unknown subset or label, an image listed twice, or a path outside the data folder.
    """
    path = Path(path)
    again = "Make it again: sonoedge train writes one into every run folder."
    split = read_record(path, Split, what="split", again=again, earlier_key="entries")
    try:
        _check(split)
    except DataError as error:
        raise DataError(f"{path} is not a split of this version: {error}") from error
    return split


def path_of(split: Split, entry: SplitEntry) -> Path:
    """Where the image of an entry lay when the split was made."""
    if isinstance(split.data_root, str):
        return Path(split.data_root) / entry.relative_path
    name, _, inside = entry.relative_path.partition("/")
    return Path(split.data_root.get(name, name)) / inside


def apply_split(dataset: Dataset, split: Split) -> dict[str, Dataset]:
    """Divide a data set as a split says; images that the split does not name are not used.

    Images are found by relative path and checked by SHA-256; a moved or renamed file is found by its
    SHA-256. Groups are taken from the split.

    Returns:
        The images by subset.

    Raises:
        DataError: images of the split are missing, changed, or labelled differently, or the classes differ.
    """
    if dataset.labels != split.labels:
        raise DataError(f"The split has the classes {split.labels}. Received: {dataset.labels}")
    by_path = {sample.relative_path: sample for sample in dataset.samples}
    in_place = {e.relative_path for e in split.entries if _matches(by_path.get(e.relative_path), e)}
    elsewhere: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in reversed(dataset.samples):
        if sample.relative_path not in in_place:
            elsewhere[sample.sha256].append(sample)
    found: dict[str, list[Sample]] = {subset: [] for subset in SUBSETS}
    problems = []
    for entry in split.entries:
        at_path = by_path.get(entry.relative_path)
        if entry.relative_path in in_place:
            sample = by_path[entry.relative_path]
        elif elsewhere[entry.sha256]:
            sample = elsewhere[entry.sha256].pop()
        else:
            problems.append(f"{entry.relative_path} ({'changed' if at_path else 'missing'})")
            continue
        if sample.label != entry.label:
            problems.append(f"{entry.relative_path} (now labelled {dataset.labels[sample.label]})")
            continue
        found[entry.subset].append(replace(sample, group=entry.group, source=entry.source))
    if problems:
        raise DataError(
            f"{len(problems)} of {len(split.entries)} images of the split do not match {dataset.name}: "
            f"{few(problems)}"
        )
    return {subset: replace(dataset, samples=tuple(found[subset]), notes=()) for subset in SUBSETS}


def joined(subsets: Mapping[str, Dataset]) -> Dataset:
    """The images of all subsets as one data set, sorted by relative path."""
    samples = [sample for subset in subsets.values() for sample in subset.samples]
    return replace(subsets["train"], samples=tuple(sorted(samples, key=lambda sample: sample.relative_path)))


def leak_count(
    split: Split, groups: Mapping[str, str] | None = None, *, subsets: Sequence[str] = ("val", "test")
) -> int:
    """Number of val and test images that share their group with an image in train.

    Args:
        split: any split; a grouped one has no such image.
        groups: group by relative path, to judge the split by other groups than its own.
        subsets: in which to count.
    """
    group_of = {e.relative_path: e.group for e in split.entries} if groups is None else groups
    trained = {group_of[e.relative_path] for e in split.entries if e.subset == "train"}
    return sum(e.subset in subsets and group_of[e.relative_path] in trained for e in split.entries)


def subset_of(split: Split) -> dict[str, str]:
    """Subset by SHA-256. If identical files lie in several subsets, train wins over val, and val over test.

    So a file counts as ``test`` only if the model has never seen its bytes.
    """
    ranked = sorted(split.entries, key=lambda entry: -SUBSETS.index(entry.subset))
    return {entry.sha256: entry.subset for entry in ranked}


def _assign(sizes: dict[str, int], fractions: tuple[float, float, float]) -> dict[str, Subset]:
    """Give each group of one class a subset: the largest first, to the subset that lacks most.

    Among the subsets in which the group still fits, the lack is relative to the subset's target, so that all three
    get large groups. A group that fits nowhere goes to the subset that lacks most images.
    """
    total = sum(sizes.values())
    target = {subset: fraction * total for subset, fraction in zip(SUBSETS, fractions, strict=True)}
    lack = dict(target)
    assigned: dict[str, Subset] = {}
    largest_first = sorted(sizes, key=lambda key: -sizes[key])
    for position, key in enumerate(largest_first):
        empty = [subset for subset in SUBSETS if lack[subset] == target[subset]]
        # The last groups are kept for the subsets that have none yet.
        allowed = empty if len(largest_first) - position <= len(empty) else list(SUBSETS)
        fitting = [subset for subset in allowed if lack[subset] >= sizes[key]]
        if fitting:
            subset = max(fitting, key=lambda name: lack[name] / target[name])
        else:
            subset = max(allowed, key=lambda name: lack[name])
        assigned[key] = subset
        lack[subset] -= sizes[key]
    return assigned


def _matches(sample: Sample | None, entry: SplitEntry) -> bool:
    return sample is not None and sample.sha256 == entry.sha256


def _check(split: Split) -> None:
    """What the types do not say."""
    labels = split.labels
    _require(len(labels) >= 2 and len(set(labels)) == len(labels), "labels must be two or more different names.")
    for entry in split.entries:
        path, label = entry.relative_path, entry.label
        _require(safe_relative(path) == path, f"the path {path!r} is not in its shortest form.")
        _require(_SHA256.fullmatch(entry.sha256) is not None, f"{path}: sha256 must be 64 hexadecimal digits.")
        _require(0 <= label < len(labels), f"{path}: unknown label {label!r}.")
    doubled = [path for path, n in Counter(entry.relative_path for entry in split.entries).items() if n > 1]
    _require(not doubled, f"images listed more than once: {few(doubled)}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise DataError(message)
