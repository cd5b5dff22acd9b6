"""``sonoedge cross-validate``: an ablation table by grouped cross-validation, and what a leaky split pretends."""

from __future__ import annotations

import argparse
import json

from sonoedge.benchmarks.experiments.ablation import cross_validate
from sonoedge.edge_runtime.commands.options import CLASSES, DATA, DEFAULT, JSON, OUT, QUIET
from sonoedge.train.arguments import call_with, take_defaults
from sonoedge.train.commands.options import GROUPS, INPUT_SIZE, SEED, WEIGHTS, add_feature_cache
from sonoedge.train.tables import for_terminal
from sonoedge.train.terminal import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    DATA.add(parser, "as for train; again for each further source", required=True, action="append")
    CLASSES.add(parser)
    GROUPS.add(parser, "instead of the folder's own groups")
    WEIGHTS.add(parser, "as for train", shown=DEFAULT)
    parser.add_argument(
        "--rows",
        metavar="A,B",
        help="rows of the table; the first is the baseline (default: all on frozen features)",
    )
    parser.add_argument("--split", metavar="grouped,paper", help=(
        "grouped: whole groups; paper: single images, which leaks; both: the difference is the leak "
        "(default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--leave-one-source-out", action="store_true", help=(
        "test on each source by a model that was trained on the others"
    ))  # fmt: skip
    parser.add_argument("--folds", type=int, metavar="N", help="default: %(default)s")
    parser.add_argument("--without-stress", dest="stress", action="store_false", help=(
        "no test on augmented copies, for which all backbones run once more"
    ))  # fmt: skip
    INPUT_SIZE.add(parser, shown="that of each row")
    parser.add_argument("--screen", action="store_true", help=(
        "a first look at rows that train all layers: 128 pixels, 6 epochs"
    ))  # fmt: skip
    SEED.add(parser, "for folds and fits", shown=DEFAULT)
    OUT.add(parser, "the table, and the folds", required=True)
    add_feature_cache(parser, old="--cache")
    QUIET.add(parser)
    JSON.add(parser, "ablation.json")
    take_defaults(parser, cross_validate)
    parser.epilog = (
        "Choose by this table and never by an external set. Interrupted, it goes on after the last fold.\n\n"
        "examples:\n"
        "  sonoedge cross-validate --data BUSI --out ablation\n"
        "  sonoedge cross-validate --data BUSI --data UCLM --data UC --leave-one-source-out --rows copies,compact "
        "--out travel\n"
        "  sonoedge cross-validate --data paper-like --rows decay --split grouped,paper --out leak"
    )


def run(args: argparse.Namespace) -> int:
    """Run the missing folds and write ablation.md, ablation.html and ablation.json. Exit code 0."""
    with shown(lines=not args.json):
        table = call_with(cross_validate, args)
    print(json.dumps(table.to_json()) if args.json else for_terminal(str(table)))
    return 0
