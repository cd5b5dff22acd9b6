"""``sonoedge cascade``: put a cheap model in front of a full one, in one bundle (`export.cascade.make`)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sonoedge.edge_runtime.commands.options import DATA, JSON, OUT, QUIET, add_threads
from sonoedge.export.cascade.make import CascadeBundle, make_cascade
from sonoedge.train.arguments import call_with, take_defaults
from sonoedge.train.tables import Column, fitted
from sonoedge.train.terminal import shown

_COLUMNS = (
    Column("", 12, left=True), Column("images", 8), Column("full model asked", 18), Column("agreement with it", 28),
    Column("(95 % interval by group)", left=True),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge cascade``."""
    parser.add_argument("--first", type=Path, required=True, metavar="BUNDLE", help="of the cheap model")
    parser.add_argument("--full", type=Path, required=True, metavar="BUNDLE", help="of the full model")
    DATA.add(parser, "those of the training run", type=Path, required=True)
    OUT.add(parser, "the bundle with both", required=True)
    parser.add_argument("--agreement", type=float, metavar="X", help=(
        "share of the full model's decisions to keep (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--first-artifact", metavar="NAME", help="default: the first of its bundle")
    parser.add_argument("--full-artifact", metavar="NAME", help="default: the first of its bundle")
    add_threads(parser)
    QUIET.add(parser)
    JSON.add(parser, "what was measured")
    take_defaults(parser, make_cascade)
    parser.epilog = (
        "Validation images decide where the full model is asked; test images only measure.\n\n"
        "example:\n"
        "  sonoedge cascade --first bundle-lite0 --full bundle --data BUSI --out bundle-cascade\n"
        "  sonoedge predict --bundle bundle-cascade frame.png"
    )


def run(args: argparse.Namespace) -> int:
    """Fit, measure and write; returns the exit code."""
    with shown(lines=not args.json):
        made = call_with(make_cascade, args)
    print(json.dumps(made.to_json()) if args.json else _table(made))
    return 0


def _over_float(ms: dict[str, float]) -> str:
    if "float_mean" not in ms:
        return ""
    return f" and {ms['speedup_over_float']:.1f} times faster than its float32 file ({ms['float_mean']:.1f} ms)"


def _table(made: CascadeBundle) -> str:
    measured = made.measured
    rows = []
    for subset in ("validation", "test"):
        if row := measured.get(subset):
            low, high = row["agreement_interval"]
            cell = f"{row['agreement']:.2%} [{low:.2%}, {high:.2%}]"
            rows.append([subset, str(row["images"]), f"{row['escalated']:.1%}", cell, ""])
    lines = [fitted(_COLUMNS, rows)]
    ms = measured["latency_ms"]
    lines.append(
        f"mean {ms['cascade_mean']:.1f} ms an image, {ms['speedup']:.1f} times faster than the full model "
        f"({ms['full_mean']:.1f} ms){_over_float(ms)}; where both are asked "
        f"{ms.get('escalated_p50', float('nan')):.1f} ms, the longest {ms['cascade_max']:.1f} ms"
    )
    return "\n".join([*lines, f"wrote {made.path}", made.intended_use])
