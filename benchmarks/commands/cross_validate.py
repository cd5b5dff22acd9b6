"""``sonoedge cross-validate``: an ablation table by grouped cross-validation, and what a leaky split pretends."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sonoedge.benchmarks.experiments.ablation import cross_validate
from sonoedge.train.arguments import call_with, take_defaults
from sonoedge.train.terminal import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--data", required=True, metavar="DIR", help="labelled images, as for train")
    parser.add_argument("--classes", metavar="A,B", help="class names, the positive one last")
    parser.add_argument("--groups", metavar="FILE", help="groups.csv of an audit")
    parser.add_argument("--weights", metavar="imagenet|none|DIR", help="default: %(default)s")
    parser.add_argument("--rows", metavar="A,B", help="rows of the table; the first is the baseline (default: all)")
    parser.add_argument("--split", metavar="grouped,paper", help=(
        "grouped: whole groups; paper: single images, which leaks; both: the difference is the leak "
        "(default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--folds", type=int, help="default: %(default)s")
    parser.add_argument("--without-stress", dest="stress", action="store_false", help=(
        "no test on augmented copies, for which all backbones run once more"
    ))  # fmt: skip
    parser.add_argument("--input-size", type=int, metavar="PIXELS", help="default: %(default)s")
    parser.add_argument("--seed", type=int, help="of folds and fits")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="table and folds")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="feature cache, as for train")
    parser.add_argument("--quiet", dest="progress", action="store_false", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the result as one object")
    take_defaults(parser, cross_validate)
    parser.epilog = (
        "Choose by this table and never by an external set. Interrupted, it goes on after the last fold.\n\n"
        "examples:\n"
        "  sonoedge cross-validate --data BUSI --out ablation\n"
        "  sonoedge cross-validate --data paper-like --rows decay --split grouped,paper --out leak"
    )


def run(args: argparse.Namespace) -> int:
    """Run the missing folds and write ablation.md, ablation.html and ablation.json. Exit code 0."""
    with shown(lines=not args.json):
        table = call_with(cross_validate, args)
    print(json.dumps(table.to_json()) if args.json else table)
    return 0
