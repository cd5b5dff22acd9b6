"""The audit of a data folder: copies, near-duplicates and conflicting labels, and how many test images they leak.

`train.commands.audit` is the command that prints and writes the result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.data.copies import CopyPair, centre_square, copy_pairs, worst_first
from sonoedge.train.data.dataset import Dataset, family_keys, group_scan, scan_folder
from sonoedge.train.data.grouping import groups_from_pairs, near_duplicate_pairs, pairs_with_equal
from sonoedge.train.data.layouts import subset_folder
from sonoedge.train.data.split import Strategy, leak_count, make_split
from sonoedge.train.markdown import markdown_table
from sonoedge.train.records.reader import Record

LEAK_SEEDS = (0, 1, 2, 3, 4)
"""Seeds of the splits over which a leak is averaged."""
MAX_WORST = 200
"""Pairs that an audit lists at most."""

Groups = tuple[tuple[str, ...], ...]


class Leak(msgspec.Struct, frozen=True):
    """Share (0–1) of test images that have a copy or near-duplicate in train: the mean over `LEAK_SEEDS`."""

    random_split: float
    grouped_split: float


class WorstPair(msgspec.Struct, frozen=True):
    """Two images of the same content, by relative path; see `train.data.copies.CopyPair`."""

    first: str
    second: str
    same_label: bool
    correlation: float
    angle: int
    mirrored: bool


class Audit(Record, frozen=True, kw_only=True, tag="sonoedge-audit"):
    """The findings. A group is a tuple of relative paths; a single image is not listed as a group.

    Attributes:
        root: the folder.
        images: how many.
        classes: images by class name.
        identical: files with the same bytes.
        near_duplicates: images of one view, quarter turns and mirror images included; also identical files.
        turned: copies turned by up to 30 degrees, mirrored or sharpened (`train.data.copies`).
        families: images that share a source name, or the group of the CSV.
        conflicting: groups, by any of this evidence, with more than one label.
        leak: None if no split can be made.
        leak_note: then, why.
        own_split_leak: images in the folder's own validation and test folders that have a copy in its training
            folder, and images in these folders; None without such folders.
        worst: pairs of copies, those under different labels first.
        group_of: the group of every image, by relative path.
        notes: lines to print.
    """

    schema_version: Literal[1] = 1
    root: str
    images: int
    classes: dict[str, int]
    identical: Groups
    near_duplicates: Groups
    turned: Groups
    families: Groups
    conflicting: Groups
    leak: Leak | None
    leak_note: str
    own_split_leak: tuple[int, int] | None
    worst: tuple[WorstPair, ...]
    group_of: dict[str, str]
    notes: tuple[str, ...]


def audit_folder(
    root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> Audit:
    """Look for everything that would let a model know a test image from training.

    Arguments and errors are those of `train.data.dataset.load_dataset`. A folder that is too small for a split is
    audited all the same.
    """
    scan = scan_folder(root, classes=classes, skip_unreadable=skip_unreadable, progress=progress)
    found, samples = scan.dataset, scan.dataset.samples
    identical = pairs_with_equal([sample.sha256 for sample in samples])
    near = near_duplicate_pairs(scan.thumbnails, invariant=True)
    pairs = copy_pairs(_squares(found, progress), progress=progress)
    turned = [(pair.first, pair.second) for pair in pairs]
    named = pairs_with_equal(family_keys(found)) + pairs_with_equal(scan.given_groups)
    firsts = groups_from_pairs(len(samples), identical + near + turned + named)
    labels_of: defaultdict[int, set[int]] = defaultdict(set)
    for first, sample in zip(firsts, samples, strict=True):
        labels_of[first].add(sample.label)
    flagged = {first for first, flag in zip(firsts, scan.flagged, strict=True) if flag}
    bad = {first for first, labels in labels_of.items() if len(labels) > 1} | flagged
    conflicting = tuple(members for first, members in _components(found, firsts) if first in bad)
    dataset = group_scan(scan)
    by_evidence = {sample.relative_path: str(first) for sample, first in zip(samples, firsts, strict=True)}
    try:
        leak, leak_note = _leak(dataset, by_evidence), ""
    except DataError as error:
        # A folder too small to be split can still be audited for everything else.
        leak, leak_note = None, str(error)
    return Audit(
        root=str(root),
        images=len(samples),
        classes={name: int(np.sum(found.y == index)) for index, name in enumerate(found.labels)},
        identical=_groups(found, identical),
        near_duplicates=_groups(found, near + identical),
        turned=_groups(found, turned),
        families=_groups(found, named),
        conflicting=conflicting,
        leak=leak,
        leak_note=leak_note,
        own_split_leak=_own_split_leak(found, firsts),
        worst=tuple(_worst(found, pairs)),
        group_of={
            sample.relative_path: samples[first].relative_path
            for sample, first in zip(samples, firsts, strict=True)
        },
        notes=dataset.notes,
    )


def render(audit: Audit) -> str:
    """The audit as a short text table: one line per finding."""
    lines = [f"{audit.root}: {audit.images} images"]
    lines += [f"  {name:<28} {count:>6}" for name, count in audit.classes.items()]
    for title, groups in (
        ("identical files", audit.identical),
        ("near-duplicates", audit.near_duplicates),
        ("turned, mirrored, sharpened", audit.turned),
        ("copies by name or CSV group", audit.families),
        ("conflicting labels", audit.conflicting),
    ):
        lines.append(f"  {title:<28} {sum(map(len, groups)):>6} images in {len(groups)} groups")
    if audit.leak is None:
        lines.append(f"no split can be made: {audit.leak_note}")
    else:
        lines.append(f"test images with a copy in train (70/15/15, mean of {len(LEAK_SEEDS)} seeds)")
        lines.append(f"  {'random split':<28} {audit.leak.random_split:>6.1%}")
        lines.append(f"  {'grouped split':<28} {audit.leak.grouped_split:>6.1%}")
    if audit.own_split_leak is not None:
        leaked, count = audit.own_split_leak
        lines.append(f"the folder's own split: {leaked} of {count} validation and test images have a copy in train")
    crossing = sum(not pair.same_label for pair in audit.worst)
    if crossing:
        lines.append(f"warning: at least {crossing} pairs show the same content under two labels")
    lines += [f"note: {note}" for note in audit.notes]
    return "\n".join(lines)


def markdown(audit: Audit) -> str:
    """The audit in Markdown: the table, the worst pairs and the groups with conflicting labels."""
    parts = [f"# Audit of {Path(audit.root).name}", f"```\n{render(audit)}\n```"]
    if audit.worst:
        rows = []
        for pair in audit.worst:
            labels, mirrored = ("same" if pair.same_label else "**different**"), ("yes" if pair.mirrored else "no")
            rows.append([pair.first, pair.second, labels, f"{pair.correlation:.2f}", f"{pair.angle}°", mirrored])
        table = markdown_table(["image", "image", "labels", "correlation", "turned", "mirrored"], rows)
        parts += ["## Worst pairs", "![worst pairs](worst-pairs.png)", table]
    if audit.conflicting:
        parts += ["## One content, two labels", "\n".join(f"- {', '.join(group)}" for group in audit.conflicting)]
    return "\n\n".join([*parts, INTENDED_USE, ""])


def _squares(dataset: Dataset, progress: bool) -> np.ndarray:
    from tqdm import tqdm

    paths = [sample.path for sample in dataset.samples]
    with ThreadPoolExecutor(max_workers=2) as pool:
        squares = pool.map(lambda path: centre_square(read_image(path)), paths)
        return np.stack(list(tqdm(squares, "fingerprints", len(paths), disable=None if progress else True)))


def _worst(dataset: Dataset, pairs: Sequence[CopyPair]) -> list[WorstPair]:
    samples = dataset.samples
    return [
        WorstPair(
            samples[pair.first].relative_path,
            samples[pair.second].relative_path,
            samples[pair.first].label == samples[pair.second].label,
            round(pair.correlation, 4),
            pair.angle,
            pair.mirrored,
        )
        for pair in worst_first(pairs, dataset.y.tolist())[:MAX_WORST]
    ]


def _own_split_leak(dataset: Dataset, firsts: Sequence[int]) -> tuple[int, int] | None:
    subsets = [subset_folder(sample.relative_path) for sample in dataset.samples]
    if None in subsets or "train" not in subsets:
        return None
    trained = {first for first, subset in zip(firsts, subsets, strict=True) if subset == "train"}
    others = [first for first, subset in zip(firsts, subsets, strict=True) if subset != "train"]
    return sum(first in trained for first in others), len(others)


def _leak(dataset: Dataset, group_of: Mapping[str, str]) -> Leak:
    def share(strategy: Strategy) -> float:
        shares = []
        for seed in LEAK_SEEDS:
            split = make_split(dataset, strategy=strategy, seed=seed)
            count = sum(entry.subset == "test" for entry in split.entries)
            shares.append(leak_count(split, group_of, subsets=("test",)) / count)
        return float(np.mean(shares))

    return Leak(random_split=share("paper"), grouped_split=share("grouped"))


def _groups(dataset: Dataset, pairs: Iterable[tuple[int, int]]) -> Groups:
    firsts = groups_from_pairs(len(dataset), pairs)
    return tuple(members for _, members in _components(dataset, firsts) if len(members) > 1)


def _components(dataset: Dataset, firsts: Sequence[int]) -> list[tuple[int, tuple[str, ...]]]:
    members: defaultdict[int, list[str]] = defaultdict(list)
    for first, sample in zip(firsts, dataset.samples, strict=True):
        members[first].append(sample.relative_path)
    return [(first, tuple(paths)) for first, paths in sorted(members.items())]
