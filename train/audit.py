"""`sonoedge audit`: copies, near-duplicates and conflicting labels of a data folder, and what they leak."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataError
from train.data import Dataset, family_keys, group_scan, scan_folder
from train.duplicates import groups_from_pairs, near_duplicate_pairs, pairs_with_equal
from train.split import Strategy, leak_count, make_split

LEAK_SEEDS = (0, 1, 2, 3, 4)

Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Leak:
    """Mean share (0–1) of test images of which a copy or near-duplicate is in train, over `LEAK_SEEDS`."""

    random_split: float
    grouped_split: float


@dataclass(frozen=True)
class Audit:
    """What was found; groups are tuples of relative paths, singles are not listed.

    ``near_duplicates`` covers quarter turns and mirror images and contains the identical files too;
    ``families`` share a source name (or the CSV's group); ``conflicting`` are groups, by any of this
    evidence, with more than one label. ``leak`` is None where no split can be made; ``leak_note`` says why.
    """

    root: str
    images: int
    classes: dict[str, int]
    identical: Groups
    near_duplicates: Groups
    families: Groups
    conflicting: Groups
    leak: Leak | None
    leak_note: str
    notes: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge audit``."""
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of labelled images")
    parser.add_argument("--classes", metavar="A,B", help="class names, the positive one last")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave damaged images out")
    parser.add_argument("--json", action="store_true", help="print one JSON object with all file names")


def run(args: argparse.Namespace) -> int:
    """Audit a folder and print a table or JSON; 0 when it could be audited.

    Raises:
        DataError: the folder cannot be read, see `load_dataset`.
    """
    classes = args.classes.split(",") if args.classes else None
    audit = audit_folder(args.data, classes=classes, skip_unreadable=args.skip_unreadable, progress=not args.json)
    print(json.dumps(asdict(audit), indent=1, ensure_ascii=False) if args.json else render(audit))
    return 0


def audit_folder(
    root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> Audit:
    """Look for everything that would let a test image be known from training."""
    scan = scan_folder(root, classes=classes, skip_unreadable=skip_unreadable, progress=progress)
    found, samples = scan.dataset, scan.dataset.samples
    identical = pairs_with_equal([sample.sha256 for sample in samples])
    near = near_duplicate_pairs(scan.thumbnails, invariant=True)
    named = pairs_with_equal(family_keys(found)) + pairs_with_equal(scan.given_groups)
    firsts = groups_from_pairs(len(samples), identical + near + named)
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
        families=_groups(found, named),
        conflicting=conflicting,
        leak=leak,
        leak_note=leak_note,
        notes=dataset.notes,
    )


def render(audit: Audit) -> str:
    """A short text table: one line per finding."""
    lines = [f"{audit.root}: {audit.images} images"]
    lines += [f"  {name:<28} {count:>6}" for name, count in audit.classes.items()]
    for title, groups in (
        ("identical files", audit.identical),
        ("near-duplicates", audit.near_duplicates),
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
    lines += [f"note: {note}" for note in audit.notes]
    return "\n".join(lines)


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
