"""``sonoedge phantoms``: simulated images with lesion masks; every command can be tried on them."""

from __future__ import annotations

import argparse

from sonoedge.edge_runtime.commands.options import OUT, QUIET
from sonoedge.train.commands.options import CASES, SEED
from sonoedge.train.simulation.phantoms import generate_phantoms

EXAMPLES = """examples:
  sonoedge phantoms --out phantoms
  sonoedge phantoms --out phantoms --cases 200 --views 3 --seed 7
  sonoedge train --data phantoms --out runs/phantoms
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge phantoms``."""
    parser.epilog = EXAMPLES
    OUT.add(parser, required=True)
    CASES.add(parser, default=60)
    parser.add_argument("--views", type=int, default=2, metavar="N", help="images per case (default: 2)")
    SEED.add(parser, default=0)
    QUIET.add(parser)


def run(args: argparse.Namespace) -> int:
    """Write the data folder; returns the exit code."""
    out = generate_phantoms(
        args.out,
        cases_per_class=args.cases,
        views_per_case=args.views,
        seed=args.seed,
        progress=args.progress,
    )
    print(f"{2 * args.cases * args.views} images of {2 * args.cases} simulated cases in {out}")
    return 0
