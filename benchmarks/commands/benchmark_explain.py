"""``sonoedge benchmark-explain``: are explanations kept, do they point at the lesion, what do they cost?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sonoedge.benchmarks.explanations.explain import benchmark_explain
from sonoedge.train.arguments import call_with, take_defaults
from sonoedge.train.terminal import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--bundle", type=Path, help="bundle folder (default: ./bundle)")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the run's images, with masks/")
    parser.add_argument("--out", type=Path, required=True, metavar="REPORT", help="report folder")
    parser.add_argument("--model", type=Path, metavar="RUN", help=(
        "run folder: GradientTape on its Keras model is the truth (without it: no fidelity, no costs)"
    ))  # fmt: skip
    parser.add_argument("--external", type=Path, metavar="DIR", help="images of another source: reported beside")
    parser.add_argument("--artifacts", metavar="A,B", help=(
        "only these; maps of the first are localised (default: all that can run here)"
    ))  # fmt: skip
    parser.add_argument("--compare", metavar="RUN,RUN", help="runs to compare, of the same split")
    parser.add_argument("--limit", type=int, metavar="N", help="images of a set, at most (0: all)")
    parser.add_argument("--faithfulness-images", type=int, metavar="N", help=(
        "for deletion and insertion, which run the model some 60 times an image (default: %(default)s; 0: none)"
    ))  # fmt: skip
    parser.add_argument("--timing-runs", type=int, metavar="N", help="default: %(default)s; 0: none")
    parser.add_argument("--panels", type=int, metavar="N", help="images per class in the pictures")
    parser.add_argument("--threads", type=int, help="interpreter threads (default: cores, at most 4)")
    parser.add_argument("--quiet", dest="progress", action="store_false", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    take_defaults(parser, benchmark_explain)
    parser.epilog = (
        "examples:\n"
        "  sonoedge benchmark-explain --bundle bundle --model runs/busi --data BUSI --out explanations\n"
        "  sonoedge benchmark-explain --bundle bundle --model runs/busi --data BUSI --external BUS-BRA \\\n"
        "      --compare runs/vgg19,runs/b0,runs/busi --out explanations"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the report and its pictures. Exit code 0, whatever the figures are."""
    with shown(lines=not args.json):
        report = call_with(benchmark_explain, args)
    from sonoedge.benchmarks.explanations.report import markdown, to_json

    print(json.dumps(to_json(report)) if args.json else f"{markdown(report)}\nwrote {args.out}")
    return 0
