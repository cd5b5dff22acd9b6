"""``sonoedge score``: measure a finished run on other images, by subgroup, and log every scoring."""

from __future__ import annotations

import argparse
from pathlib import Path

from sonoedge.train.records.reader import record_text
from sonoedge.train.terminal import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge score``."""
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument("--data", required=True, metavar="DIR", help="labelled images of the same classes")
    parser.add_argument("--by", metavar="A,B", help=(
        "columns of the folder's CSV to report by (default: device, scanner, birads where it has them); "
        "lesion size comes from masks"
    ))  # fmt: skip
    parser.add_argument("--skip-unreadable", action="store_true", help="leave damaged images out")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="feature cache, as for train")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
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
            progress=not args.quiet,
        )
    if args.json:
        print(record_text(found, indent=None), end="")
        return 0
    from sonoedge.train.experiments.scoring import render

    print(render(found))
    return 0
