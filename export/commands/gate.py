"""``sonoedge gate``: give an older bundle the out-of-domain gate that `export` gives every new one, or test a gate.

With ``--check`` the command only measures (`export.bundle.gate`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sonoedge.edge_runtime.bundle.contract import GATE_FILE
from sonoedge.edge_runtime.commands.options import ARTIFACTS, DATA, JSON, MODEL, QUIET, RUNNABLE, add_bundle
from sonoedge.export.bundle.gate import GateCheck, add_gate, check_gate
from sonoedge.train.arguments import call_with, take_defaults
from sonoedge.train.commands.options import add_feature_cache
from sonoedge.train.tables import Column, fitted
from sonoedge.train.terminal import shown

if TYPE_CHECKING:
    from sonoedge.export.gate.fit import FittedGate

_COLUMNS = (
    Column("images", 40, left=True), Column("n", 6), Column("refused", 9), Column("flagged", 9),
    Column("median", 9), Column("AUC against test", 18),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge gate``."""
    add_bundle(parser)
    MODEL.add(parser, shown="the newest under ./runs")
    DATA.add(parser, "the run's", type=Path, shown="where the run read them")
    add_feature_cache(parser)
    ARTIFACTS.add(parser, shown=RUNNABLE)
    parser.add_argument("--check", type=Path, nargs="+", metavar="DIR", help=(
        "change nothing: rates of the run's test images and of each folder, and the AUC between them"
    ))  # fmt: skip
    parser.add_argument("--grey", action="store_true", help="with --check: folders' images in grey, as B-mode is")
    QUIET.add(parser)
    JSON.add(parser, "the limits, or what --check found")
    take_defaults(parser, add_gate)
    parser.epilog = (
        "`sonoedge export` does this for every bundle of a run; the command is for bundles that lack a gate.\n\n"
        "examples:\n"
        "  sonoedge gate --bundle bundle --model runs/busi\n"
        "  sonoedge gate --bundle bundle --model runs/busi --check photos/ other_hospital/"
    )


def run(args: argparse.Namespace) -> int:
    """Add the gate to a bundle, or check it. Returns the exit code."""
    with shown(lines=not args.json):
        if args.check:
            checked = call_with(check_gate, args, folders=args.check)
            print(json.dumps(asdict(checked)) if args.json else check_table(checked))
            return 0
        added = call_with(add_gate, args)
    print(json.dumps({"bundle": str(args.bundle), **added.facts}) if args.json else table(added))
    return 0


def table(added: FittedGate) -> str:
    """The limits and rates as text."""
    facts = added.facts
    lines = [
        f"{GATE_FILE}: {facts['images']} images of the {facts['source']}, {facts['copies']} augmented copies "
        f"of each, {len(added.gate.components)} directions"
    ]
    lines += [
        f"  {name:<16} flags above {limit.warning:.3f}, refuses above {limit.threshold:.3f}"
        for name, limit in added.limits.items()
    ]
    lines += [
        f"  {subset}: {rate['refused']:.1%} of {rate['images']} images refused, {rate['flagged']:.1%} flagged"
        for subset, rate in facts["rates"].items()
    ]
    return "\n".join(lines)


def check_table(found: GateCheck) -> str:
    """Limits, and a row for each set of images, as text."""
    rows = [
        [row.images[-39:], str(row.n), f"{row.refused:.1%}", f"{row.flagged:.1%}", f"{row.median:.2f}",
         "" if row.auc is None else f"{row.auc:.4f}"]
        for row in found.sets
    ]  # fmt: skip
    limits = f"{found.artifact}: flagged above {found.warning:.3f}, refused above {found.threshold:.3f}"
    return f"{limits}\n{fitted(_COLUMNS, rows)}"
