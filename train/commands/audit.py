"""``sonoedge audit``: copies, near-duplicates and conflicting labels of a data folder, and what they leak.

With ``--out`` it writes audit.json, audit.md, worst-pairs.png and groups.csv, which is for ``train --groups``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sonoedge.edge_runtime.commands.options import CLASSES, JSON, OUT, QUIET, SKIP_UNREADABLE
from sonoedge.train.records.reader import record_text
from sonoedge.train.terminal import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge audit``."""
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of labelled images")
    CLASSES.add(parser)
    SKIP_UNREADABLE.add(parser)
    OUT.add(parser, "audit.json, audit.md, worst-pairs.png and groups.csv, for train --groups")
    QUIET.add(parser)
    JSON.add(parser, "one object with all file names")
    parser.epilog = (
        "Copies are found by file name, by equal files, and by content: turned by up to 30 degrees, mirrored,\n"
        "sharpened or rescaled.\n\n"
        "examples:\n"
        "  sonoedge audit DATA --out audit\n"
        "  sonoedge train --data DATA --groups audit/groups.csv --out runs/clean"
    )


def run(args: argparse.Namespace) -> int:
    """Audit a folder and print a table or JSON; exit code 0, whatever the audit finds."""
    from sonoedge.train.api import audit
    from sonoedge.train.data.audit import render

    with shown(lines=not args.json):
        found = audit(
            args.data,
            classes=args.classes,
            skip_unreadable=args.skip_unreadable,
            out=args.out,
            progress=args.progress and not args.json,
        )
    print(record_text(found, indent=1) if args.json else render(found), end="" if args.json else "\n")
    return 0
