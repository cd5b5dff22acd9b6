"""``sonoedge calibrate-site``: the threshold of a bundle from a hospital's own labelled images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from sonoedge.edge_runtime.commands.options import (
    ARTIFACTS,
    DATA,
    JSON,
    QUIET,
    RUNNABLE,
    add_bundle,
    add_threads,
)
from sonoedge.edge_runtime.commands.sign import key_password
from sonoedge.edge_runtime.typed_json import to_plain
from sonoedge.export.bundle.site import SiteCalibration, calibrate_site
from sonoedge.train.arguments import call_with, take_defaults
from sonoedge.train.tables import Column, fitted
from sonoedge.train.terminal import shown

_COLUMNS = (
    Column("artifact", 16, left=True),
    Column("threshold", 10),
    Column("sensitivity", 22),
    Column("specificity", 22),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge calibrate-site``."""
    add_bundle(parser)
    DATA.add(parser, "of the site, with patients in images.csv", type=Path, required=True)
    parser.add_argument("--sensitivity", type=float, metavar="X", help=(
        "operating point: the share of positives to find, 0.5–0.99 (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--lower-bound", type=float, metavar="X", help=(
        "say how many patients are missing until the 95 %% interval of the sensitivity begins here"
    ))  # fmt: skip
    parser.add_argument("--site", metavar="NAME", help="name of the site (default: that of the data folder)")
    ARTIFACTS.add(parser, shown=RUNNABLE)
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="private key that signs the overlay (PEM, Ed25519)"
    )
    parser.add_argument("--password", action="store_true", help="ask for the key's password")
    add_threads(parser)
    QUIET.add(parser)
    JSON.add(parser, "the overlay")
    take_defaults(parser, calibrate_site)
    parser.epilog = (
        "Writes BUNDLE.site.json beside the bundle, which stays as it is. predict, explain, stream and serve take\n"
        "their threshold from there and say so; verify checks it; removing the file goes back.\n\n"
        "examples:\n"
        "  sonoedge calibrate-site --bundle bundle --data our-images --sensitivity 0.9\n"
        "  sonoedge calibrate-site --bundle bundle --data our-images --key clinic.key --password"
    )


def run(args: argparse.Namespace) -> int:
    """Write the overlay. Exit code 0."""
    args.password = key_password(args.password) if args.key else None
    with shown(lines=not args.json):
        found = call_with(calibrate_site, args)
    print(json.dumps(to_plain(found.site)) if args.json else table(found))
    return 0


def table(found: SiteCalibration) -> str:
    """The operating points as text, and what the figures are worth."""
    site = found.site
    rows = [
        [point.artifact, f"{point.threshold:.4f}", *map(_interval, (point.sensitivity, point.specificity))]
        for point in site.points
    ]
    lines = [
        f"{site.site}: {site.images} images of {site.patients} patients, {site.positive_patients} with the "
        f"positive class; {found.refused} images refused by the gate",
        fitted(_COLUMNS, rows),
        "On the images that chose the threshold, so a little too good; 95 % intervals by patient.",
        f"With {site.positive_patients} positive patients the interval begins at {found.best_bound:.2f} at best.",
    ]
    if found.missing:
        lines.append(f"For the wanted lower bound {found.missing} more positive patients are needed, all found.")
    return "\n".join([*lines, f"wrote {found.path}"])


def _interval(figures: Sequence[float]) -> str:
    value, low, high = figures
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
