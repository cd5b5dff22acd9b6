"""``sonoedge score``: measure a finished run on other images, by subgroup, and log every scoring."""

from __future__ import annotations

import argparse

from sonoedge.edge_runtime.commands.options import DATA, JSON, MODEL, QUIET, SKIP_UNREADABLE
from sonoedge.train.commands.options import add_feature_cache
from sonoedge.train.records.reader import record_text
from sonoedge.train.terminal import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge score``."""
    MODEL.add(parser, required=True)
    DATA.add(parser, "of the same classes", required=True)
    parser.add_argument("--by", metavar="A,B", help=(
        "columns of the folder's CSV to report by (default: device, scanner, birads where it has them); "
        "lesion size comes from masks"
    ))  # fmt: skip
    SKIP_UNREADABLE.add(parser)
    add_feature_cache(parser, old="--cache")
    QUIET.add(parser)
    JSON.add(parser, "one object")
    parser.epilog = (
        "Images that the run was trained or chosen on, and copies of them, are left out.\n"
        "Every scoring is added to RUN/scorings.jsonl.\n\n"
        "example:\n"
        "  sonoedge score --model runs/busi --data BUS-BRA --by device,birads"
    )


def run(args: argparse.Namespace) -> int:
    """Score, log and print; returns the exit code."""
    from sonoedge.train.api import score

    with shown(lines=not args.json):
        found = score(
            args.model,
            args.data,
            by=args.by,
            skip_unreadable=args.skip_unreadable,
            cache=args.cache,
            progress=args.progress,
        )
    if args.json:
        print(record_text(found, indent=None), end="")
        return 0
    from sonoedge.train.experiments.scoring import render

    print(render(found))
    return 0
