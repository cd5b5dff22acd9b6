"""``sonoedge phantoms``: simulated images with lesion masks; every command can be tried on them."""

from __future__ import annotations

import argparse
from pathlib import Path

from sonoedge.train.simulation.phantoms import generate_phantoms

EXAMPLES = """examples:
  sonoedge phantoms --out phantoms
  sonoedge phantoms --out phantoms --cases 200 --views 3 --seed 7
  sonoedge train --data phantoms --out runs/phantoms
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge phantoms``."""
    parser.epilog = EXAMPLES
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to create")
    parser.add_argument("--cases", type=int, default=60, metavar="N", help="cases per class (default: 60)")
    parser.add_argument("--views", type=int, default=2, metavar="N", help="images per case (default: 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Write the data folder; returns the exit code."""
    out = generate_phantoms(
        args.out, cases_per_class=args.cases, views_per_case=args.views, seed=args.seed, progress=True
    )
    print(f"{2 * args.cases * args.views} images of {2 * args.cases} simulated cases in {out}")
    return 0
