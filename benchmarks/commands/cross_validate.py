"""``sonoedge cross-validate``: an ablation table by grouped cross-validation, and what a leaky split pretends."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonoedge.edge_runtime.commands.options import CLASSES, DATA, JSON, OUT, QUIET
from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.commands.options import (
    GROUPS,
    INPUT_SIZE,
    PIXEL_RANGE,
    SEED,
    SEED_RANGE,
    WEIGHTS,
    add_feature_cache,
    check_ranges,
)
from sonoedge.train.tables import for_terminal

if TYPE_CHECKING:
    from sonoedge.train.data.dataset import Dataset
    from sonoedge.train.experiments.cross_validation import OutOfFold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    DATA.add(parser, "as for train", required=True)
    CLASSES.add(parser)
    GROUPS.add(parser, "instead of the folder's own groups")
    WEIGHTS.add(parser, "as for train", default="imagenet")
    parser.add_argument("--rows", metavar="A,B", help="rows of the table; the first is the baseline (default: all)")
    parser.add_argument("--split", default="grouped", metavar="grouped,paper", help=(
        "grouped: whole groups; paper: single images, which leaks; both: the difference is the leak "
        "(default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--without-stress", action="store_true", help=(
        "no test on augmented copies, for which all backbones run once more"
    ))  # fmt: skip
    INPUT_SIZE.add(parser, default=224)
    SEED.add(parser, "for folds and fits", default=0)
    OUT.add(parser, "the table, and the folds", required=True)
    add_feature_cache(parser, old="--cache")
    QUIET.add(parser)
    JSON.add(parser, "ablation.json")
    parser.epilog = (
        "Choose by this table and never by an external set. Interrupted, it goes on after the last fold.\n\n"
        "examples:\n"
        "  sonoedge cross-validate --data BUSI --out ablation\n"
        "  sonoedge cross-validate --data paper-like --rows decay --split grouped,paper --out leak"
    )


def run(args: argparse.Namespace) -> int:
    """Run the missing folds and write ablation.md, ablation.html and ablation.json. Exit code 0."""
    splits = tuple(part.strip() for part in args.split.split(",") if part.strip())
    if not splits or set(splits) - {"grouped", "paper"} or len(set(splits)) != len(splits):
        raise UsageError(f"--split takes grouped, paper or both. Received: {args.split!r}.")
    check_ranges(
        ("--folds", args.folds, 2, 100),
        ("--input-size", args.input_size, *PIXEL_RANGE),
        ("--seed", args.seed, *SEED_RANGE),
    )
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"{args.out} exists and is not a folder.")
    from sonoedge.train.quiet import quiet, silent

    with quiet():
        from sonoedge.benchmarks.experiments.cross_validation import lines_of, markdown, page, pairs_of
        from sonoedge.train.data.dataset import load_dataset
        from sonoedge.train.evaluation.intervals import without_nan
        from sonoedge.train.experiments.cross_validation import cross_validate, parse_rows
        from sonoedge.train.features.cache import default_cache
        from sonoedge.train.fitting.steps import TrainSettings

    rows = parse_rows(args.rows)
    dataset = load_dataset(
        args.data,
        classes=args.classes.split(",") if args.classes else None,
        groups=args.groups,
        progress=not args.quiet,
    )
    if len(dataset.labels) != 2:
        raise DataError(
            f"The classifier is binary. Classes: {', '.join(dataset.labels)}; choose two with --classes."
        )
    settings = TrainSettings(args.data, weights=args.weights, input_size=args.input_size, seed=args.seed)
    found: Sequence[OutOfFold] = cross_validate(
        dataset, rows, splits, settings, args.out, folds=args.folds,
        stress=not args.without_stress, cache=args.cache or default_cache(),
        progress=not args.quiet, say=silent if args.json else print,
    )  # fmt: skip
    lines, pairs = lines_of(dataset, found), pairs_of(dataset, found)
    facts = _facts(dataset, args)
    text = markdown(lines, pairs, facts)
    result: dict[str, Any] = without_nan(
        {
            "facts": facts,
            "rows": [asdict(line) for line in lines],
            "pairs": [{**asdict(pair), "verdict": pair.verdict} for pair in pairs],
            "out_of_fold": [
                {
                    "row": o.row,
                    "split": o.split,
                    "logits": o.logits.tolist(),
                    "stress": None if o.stress is None else o.stress.tolist(),
                }
                for o in found
            ],
            "images": [sample.relative_path for sample in dataset.samples],
            "intended_use": INTENDED_USE,
        }
    )
    write_text_atomic(args.out / "ablation.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_text_atomic(args.out / "ablation.md", text)
    write_text_atomic(args.out / "ablation.html", page(lines, pairs, facts))
    print(json.dumps(result) if args.json else for_terminal(text))
    return 0


def _facts(dataset: Dataset, args: argparse.Namespace) -> str:
    return (
        f"{dataset.root.name}: {len(dataset)} images in {len(set(dataset.groups))} groups, digest "
        f"{dataset.digest[:16]}; weights {Path(args.weights).name}, {args.folds} folds, seed {args.seed}"
    )
