"""``sonoedge paper-like``: a stand-in for the paper's data set, from a folder of source images."""

from __future__ import annotations

import argparse

from sonoedge.edge_runtime.commands.options import CLASSES, DATA, OUT, QUIET
from sonoedge.train.commands.options import SEED, SEED_RANGE, check_ranges
from sonoedge.train.simulation.paper_like import MAX_FILES, write_paper_like


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge paper-like``."""
    DATA.add(parser, "the sources", required=True)
    CLASSES.add(parser)
    OUT.add(parser, required=True)
    parser.add_argument("--sources", type=int, default=0, metavar="N", help="source images (default: all)")
    parser.add_argument("--files", type=int, default=MAX_FILES, metavar="N", help=(
        f"files of each source, 1 to {MAX_FILES} (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help=(
        "square files of this size, 0: as the source (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--without-groups", action="store_true", help="no images.csv, as the set was published")
    SEED.add(parser, "for sources and angles", default=0)
    QUIET.add(parser)
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
    from sonoedge.train.data.dataset import load_dataset

    classes = args.classes.split(",") if args.classes else None
    dataset = load_dataset(args.data, classes=classes, progress=args.progress)
    count = write_paper_like(
        dataset, args.out, sources=args.sources, files=args.files, size=args.size, seed=args.seed,
        groups=not args.without_groups, progress=args.progress,
    )  # fmt: skip
    print(f"{count} files in {args.out}")
    return 0
