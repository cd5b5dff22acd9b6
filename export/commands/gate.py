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
from sonoedge.export.bundle.gate import GateCheck, add_gate, check_gate
from sonoedge.train.arguments import call_with, take_defaults
from sonoedge.train.terminal import shown

if TYPE_CHECKING:
    from sonoedge.export.gate.fit import FittedGate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge gate``."""
    parser.add_argument("--bundle", type=Path, help="bundle folder (default: ./bundle)")
    parser.add_argument("--model", type=Path, metavar="RUN", help="run folder (default: the newest under ./runs)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the run's images are now")
    parser.add_argument("--feature-cache", type=Path, metavar="DIR", help=(
        "the --cache of train (default: ~/.cache/sonoedge/features)"
    ))  # fmt: skip
    parser.add_argument("--artifacts", metavar="A,B", help="default: every one that can run here")
    parser.add_argument("--check", type=Path, nargs="+", metavar="DIR", help=(
        "change nothing: rates of the run's test images and of each folder, and the AUC between them"
    ))  # fmt: skip
    parser.add_argument("--grey", action="store_true", help="with --check: folders' images in grey, as B-mode is")
    parser.add_argument("--quiet", dest="progress", action="store_false", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the limits as one JSON object")
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
        fitted = call_with(add_gate, args)
    print(json.dumps({"bundle": str(args.bundle), **fitted.facts}) if args.json else table(fitted))
    return 0


def table(fitted: FittedGate) -> str:
    """The limits and rates as text."""
    facts = fitted.facts
    lines = [
        f"{GATE_FILE}: {facts['images']} images of the {facts['source']}, {facts['copies']} augmented copies "
        f"of each, {len(fitted.gate.components)} directions"
    ]
    lines += [
        f"  {name:<16} flags above {limit.warning:.3f}, refuses above {limit.threshold:.3f}"
        for name, limit in fitted.limits.items()
    ]
    lines += [
        f"  {subset}: {rate['refused']:.1%} of {rate['images']} images refused, {rate['flagged']:.1%} flagged"
        for subset, rate in facts["rates"].items()
    ]
    return "\n".join(lines)


def check_table(found: GateCheck) -> str:
    """Limits, and a row for each set of images, as text."""
    lines = [
        f"{found.artifact}: flagged above {found.warning:.3f}, refused above {found.threshold:.3f}",
        f"{'images':<40}{'n':>6}{'refused':>9}{'flagged':>9}{'median':>9}{'AUC against test':>18}",
    ]
    for row in found.sets:
        auc = "" if row.auc is None else f"{row.auc:.4f}"
        shares = f"{row.refused:>9.1%}{row.flagged:>9.1%}"
        lines.append(f"{row.images[-39:]:<40}{row.n:>6}{shares}{row.median:>9.2f}{auc:>18}")
    return "\n".join(lines)
