"""``sonoedge benchmark-explain``: are explanations kept, do they point at the lesion, what do they cost?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sonoedge.benchmarks.explanations.explain import benchmark_explain
from sonoedge.edge_runtime.commands.options import (
    ARTIFACTS,
    BUDGET,
    DATA,
    JSON,
    MAX_IMAGES,
    MODEL,
    OUT,
    QUIET,
    RUNNABLE,
    add_bundle,
    add_threads,
    old_spelling,
)
from sonoedge.edge_runtime.explain.methods.table import METHODS
from sonoedge.train.arguments import call_with, take_defaults
from sonoedge.train.tables import for_terminal
from sonoedge.train.terminal import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_bundle(parser)
    DATA.add(parser, "the run's, with masks/", type=Path, required=True)
    OUT.add(parser, "the report", required=True)
    MODEL.add(parser, "GradientTape on its Keras model is the truth (without it: no fidelity, no costs)")
    parser.add_argument("--external", type=Path, metavar="DIR", help="images of another source: reported beside")
    ARTIFACTS.add(parser, "maps of the first are localised", shown=RUNNABLE)
    parser.add_argument("--compare", metavar="RUN,RUN", help="runs to compare, of the same split")
    most = MAX_IMAGES.add(parser, "of each set", shown="0, all")
    old_spelling(parser, "--limit", most)
    parser.add_argument("--faithfulness-images", type=int, metavar="N", help=(
        "for deletion and insertion, which run the model some 60 times an image (default: %(default)s; 0: none)"
    ))  # fmt: skip
    parser.add_argument("--timing-runs", type=int, metavar="N", help="default: %(default)s; 0: none")
    parser.add_argument("--panels", type=int, metavar="N", help="images per class in the pictures")
    parser.add_argument("--methods", metavar="A,B", help=(
        f"methods of explanation to measure with one ruler: {','.join(METHODS)} (default: none)"
    ))  # fmt: skip
    BUDGET.add(parser, shown="no limit")
    add_threads(parser)
    QUIET.add(parser)
    JSON.add(parser, "the report")
    take_defaults(parser, benchmark_explain)
    parser.epilog = (
        "examples:\n"
        "  sonoedge benchmark-explain --bundle bundle --model runs/busi --data BUSI --out explanations\n"
        "  sonoedge benchmark-explain --bundle bundle --model runs/busi --data BUSI --external BUS-BRA \\\n"
        "      --compare runs/vgg19,runs/b0,runs/busi --out explanations\n"
        "  sonoedge benchmark-explain --bundle bundle --data BUSI --methods occlusion,rise --out explanations"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the report and its pictures. Exit code 0, whatever the figures are."""
    with shown(lines=not args.json):
        report = call_with(benchmark_explain, args)
    from sonoedge.benchmarks.explanations.report import markdown, to_json

    print(json.dumps(to_json(report)) if args.json else f"{for_terminal(markdown(report))}\nwrote {args.out}")
    return 0
