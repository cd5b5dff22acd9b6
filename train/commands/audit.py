"""``sonoedge audit``: copies, near-duplicates and conflicting labels of a data folder, and what they leak.

With ``--out`` it writes audit.json, audit.md, worst-pairs.png and groups.csv, which is for ``train --groups``.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sonoedge.edge_runtime.commands.options import CLASSES, JSON, OUT, QUIET, SKIP_UNREADABLE
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.train.folders import atomic_directory

if TYPE_CHECKING:
    from sonoedge.train.data.audit import Audit, WorstPair

SHEET_PAIRS = 12
"""Pairs on the contact sheet worst-pairs.png."""


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
    """Audit a folder and print a table or JSON; exit code 0, whatever the audit finds.

    Raises:
        DataError: the folder cannot be read, see `train.data.dataset.load_dataset`.
        UsageError: ``--out`` is a file, or another folder with content.
    """
    from sonoedge.train.data.audit import audit_folder, render

    classes = args.classes.split(",") if args.classes else None
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise UsageError(f"{args.out} exists and is not a folder.")
    audit = audit_folder(
        args.data, classes=classes, skip_unreadable=args.skip_unreadable, progress=not (args.json or args.quiet)
    )
    if args.out is not None:
        write_audit(audit, args.out)
    print(json.dumps(asdict(audit), indent=1, ensure_ascii=False) if args.json else render(audit))
    return 0


def write_audit(audit: Audit, out: Path) -> None:
    """Write the folder of ``--out``.

    Raises:
        UsageError: ``out`` is another folder with content.
    """
    from sonoedge.train.data.audit import markdown
    from sonoedge.train.evaluation.figures import plot_pairs

    with atomic_directory(out, marker="audit.json") as folder:
        table = io.StringIO()
        rows = sorted(audit.group_of.items())
        csv.writer(table, lineterminator="\n").writerows([("image", "group"), *rows])
        write_text_atomic(folder / "groups.csv", table.getvalue())
        root = Path(audit.root)
        pictures = [
            (read_image(root / p.first), read_image(root / p.second), _caption(p))
            for p in audit.worst[:SHEET_PAIRS]
        ]
        if pictures:
            plot_pairs(pictures, folder / "worst-pairs.png")
        write_text_atomic(folder / "audit.md", markdown(audit))
        write_text_atomic(folder / "audit.json", json.dumps(asdict(audit), indent=1, ensure_ascii=False) + "\n")


def _caption(pair: WorstPair) -> str:
    turn = f", turned {pair.angle}°" if pair.angle else ""
    mirror = ", mirrored" if pair.mirrored else ""
    warning = "" if pair.same_label else "DIFFERENT LABELS\n"
    return f"{warning}{pair.first}\n{pair.second}\ncorrelation {pair.correlation:.2f}{turn}{mirror}"
