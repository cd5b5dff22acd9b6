"""``sonoedge distill``: a trained run -> the run of a compact student."""

from __future__ import annotations

import argparse
import json

from sonoedge.edge_runtime.commands.options import DATA, JSON, OUT, QUIET
from sonoedge.train.commands.options import (
    AUGMENT,
    EPOCHS,
    INPUT_SIZE,
    LEARNING_RATE,
    OVERWRITE,
    PIXEL_RANGE,
    SEED,
    SEED_RANGE,
    TEACHER,
    WEIGHTS,
    add_feature_cache,
    check_new_run,
    check_ranges,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge distill``."""
    TEACHER.add(parser, required=True)
    DATA.add(parser, "those that the teacher was trained on", required=True)
    parser.add_argument("--student", default="efficientnet-lite0", metavar="NAME", help=(
        "efficientnet-lite0, mobilenetv2 or efficientnetb0 (default: %(default)s)"
    ))  # fmt: skip
    WEIGHTS.add(parser, "what the student starts from; DIR holds <backbone>_notop.weights.h5", default="imagenet")
    INPUT_SIZE.add(parser, shown="192")
    AUGMENT.add(parser, default=3)
    EPOCHS.add(parser, default=10)
    LEARNING_RATE.add(parser, default=5e-4)
    SEED.add(parser, "for the batches and of untrained weights", default=0)
    OUT.add(parser, "the student's run", required=True)
    OVERWRITE.add(parser)
    add_feature_cache(parser, old="--cache")
    QUIET.add(parser)
    JSON.add(parser, "the run card")
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
