"""``sonoedge benchmark-explain``: are explanations kept, do they point at the lesion, what do they cost?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sonoedge.edge_runtime.commands.options import (
    ARTIFACTS,
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
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.folders import check_replaceable
from sonoedge.train.tables import for_terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_bundle(parser)
    DATA.add(parser, "the run's, with masks/", type=Path, required=True)
    OUT.add(parser, "the report", required=True)
    MODEL.add(parser, "GradientTape on its Keras model is the truth (without it: no fidelity, no costs)")
    parser.add_argument("--external", type=Path, metavar="DIR", help="images of another source: reported beside")
    ARTIFACTS.add(parser, "maps of the first are localised", default="", shown=RUNNABLE)
    parser.add_argument("--compare", default="", metavar="RUN,RUN", help="runs to compare, of the same split")
    most = MAX_IMAGES.add(parser, "of each set", dest="limit", default=0, shown="0, all")
    old_spelling(parser, "--limit", most)
    parser.add_argument("--faithfulness-images", type=int, default=24, metavar="N", help=(
        "for deletion and insertion, which run the model some 60 times an image (default: %(default)s; 0: none)"
    ))  # fmt: skip
    parser.add_argument("--timing-runs", type=int, default=20, metavar="N", help="default: %(default)s; 0: none")
    parser.add_argument("--panels", type=int, default=5, metavar="N", help="images per class in the pictures")
    add_threads(parser)
    QUIET.add(parser)
    JSON.add(parser, "the report")
    parser.epilog = (
        "examples:\n"
        "  sonoedge benchmark-explain --bundle bundle --model runs/busi --data BUSI --out explanations\n"
        "  sonoedge benchmark-explain --bundle bundle --model runs/busi --data BUSI --external BUS-BRA \\\n"
        "      --compare runs/vgg19,runs/b0,runs/busi --out explanations"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the report and its pictures. Exit code 0, whatever the figures are."""
    from sonoedge.train.quiet import quiet

    for option, value in (
        ("--max-images", args.limit),
        ("--faithfulness-images", args.faithfulness_images),
        ("--timing-runs", args.timing_runs),
        ("--panels", args.panels),
    ):
        if value < 0:
            raise UsageError(f"{option} cannot be negative. Received: {value}.")
    with quiet():
        from sonoedge.benchmarks.explanations.evaluation import ExplanationRequest, evaluate
        from sonoedge.benchmarks.explanations.report import REPORT, markdown, to_json, write_report
    check_replaceable(args.out, marker=REPORT)
    request = ExplanationRequest(
        bundle=args.bundle,
        data=args.data,
        out=args.out,
        run=args.model,
        external=args.external,
        artifacts=tuple(name for name in args.artifacts.split(",") if name),
        compare=tuple(Path(name) for name in args.compare.split(",") if name),
        limit=args.limit,
        faithfulness_images=args.faithfulness_images,
        timing_runs=args.timing_runs,
        panels=args.panels,
        threads=args.threads,
        progress=not args.quiet,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    report = evaluate(request)
    write_report(report, args.out)
    print(json.dumps(to_json(report)) if args.json else f"{for_terminal(markdown(report))}\nwrote {args.out}")
    return 0
