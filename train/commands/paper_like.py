"""``sonoedge paper-like``: a stand-in for the paper's data set, from a folder of source images."""

from __future__ import annotations

import argparse
from pathlib import Path

from sonoedge.train.commands.options import SEED_RANGE, check_ranges
from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.simulation.paper_like import MAX_FILES, write_paper_like


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge paper-like``."""
    parser.add_argument("--data", required=True, metavar="DIR", help="labelled source images")
    parser.add_argument("--classes", metavar="A,B", help="class names, the positive one last")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to create")
    parser.add_argument("--sources", type=int, default=0, metavar="N", help="source images (default: all)")
    parser.add_argument("--files", type=int, default=MAX_FILES, metavar="N", help=(
        f"files of each source, 1 to {MAX_FILES} (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help=(
        "square files of this size, 0: as the source (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--without-groups", action="store_true", help="no images.csv, as the set was published")
    parser.add_argument("--seed", type=int, default=0, help="of sources and angles")
    parser.epilog = (
        "examples:\n"
        "  sonoedge paper-like --data BUSI --out paper-like\n"
        "  sonoedge reproduce --data paper-like --out reproduction\n"
        "  sonoedge cross-validate --data paper-like --split grouped,paper --out leak"
    )


def run(args: argparse.Namespace) -> int:
    """Write the data set; returns the exit code."""
    check_ranges(
        ("--sources", args.sources, 0, 10**9),
        ("--files", args.files, 1, MAX_FILES),
        ("--size", args.size, 0, 4096),
        ("--seed", args.seed, *SEED_RANGE),
    )
    dataset = load_dataset(args.data, classes=args.classes.split(",") if args.classes else None, progress=True)
    count = write_paper_like(
        dataset, args.out, sources=args.sources, files=args.files, size=args.size, seed=args.seed,
        groups=not args.without_groups, progress=True,
    )  # fmt: skip
    print(f"{count} files in {args.out}")
    return 0
