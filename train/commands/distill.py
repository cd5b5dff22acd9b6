"""``sonoedge distill``: a trained run -> the run of a compact student."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sonoedge.train.commands.options import PIXEL_RANGE, SEED_RANGE, check_new_run, check_ranges


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge distill``."""
    parser.add_argument("--teacher", required=True, type=Path, metavar="RUN", help="finished run folder")
    parser.add_argument("--data", required=True, metavar="DIR", help="the images that the teacher was trained on")
    parser.add_argument("--student", default="efficientnet-lite0", metavar="NAME", help=(
        "efficientnet-lite0, mobilenetv2 or efficientnetb0 (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--weights", default="imagenet", metavar="imagenet|none|DIR", help=(
        "what the student starts from; DIR holds <backbone>_notop.weights.h5 (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--input-size", type=int, metavar="PIXELS", help="default: 192")
    parser.add_argument("--augment", type=int, default=3, metavar="N", help=(
        "augmented copies per training image (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--epochs", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the batches and of untrained weights")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN2", help="run folder of the student")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="default: ~/.cache/sonoedge/features")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the run card as one JSON object")
    parser.epilog = (
        "Training images only are taught. The teacher sees each copy once; an interrupted training goes on.\n"
        "The student's run is exported, verified and measured like any other.\n\n"
        "example:\n"
        "  sonoedge distill --teacher runs/busi --student efficientnet-lite0 --data BUSI --out runs/lite0\n"
        "  sonoedge export --model runs/lite0 --format tflite-int8 --out bundle-lite0"
    )


def run(args: argparse.Namespace) -> int:
    """Teach a student and write its run folder; returns the exit code."""
    check_new_run(args.out, overwrite=args.overwrite)
    check_ranges(
        ("--input-size", args.input_size or 32, *PIXEL_RANGE),
        ("--augment", args.augment, 0, 100),
        ("--epochs", args.epochs, 1, 10_000),
        ("--learning-rate", args.learning_rate, 1e-8, 1.0),
        ("--seed", args.seed, *SEED_RANGE),
    )
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.train.distillation.distill import DistillSettings, distill
        from sonoedge.train.distillation.objective import DistillFit
    settings = DistillSettings(
        teacher=str(args.teacher),
        data=args.data,
        student=args.student,
        weights=args.weights,
        input_size=args.input_size,
        augment=args.augment,
        seed=args.seed,
        fit=DistillFit(learning_rate=args.learning_rate, epochs=args.epochs),
    )
    card = distill(settings, args.out, cache=args.cache, progress=not args.quiet, verbose=not args.json)
    if args.json:
        print(json.dumps(card))
    return 0
