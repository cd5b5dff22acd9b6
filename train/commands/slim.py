"""``sonoedge slim``: a trained run -> the run of the same architecture with a slim VGG."""

from __future__ import annotations

import argparse
import json

from sonoedge.edge_runtime.commands.options import DATA, JSON, OUT, QUIET
from sonoedge.train.commands.options import (
    AUGMENT,
    OVERWRITE,
    SEED,
    SEED_RANGE,
    TEACHER,
    add_feature_cache,
    check_new_run,
    check_ranges,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge slim``."""
    TEACHER.add(parser, "with a VGG", required=True)
    DATA.add(parser, "those that the teacher was trained on", required=True)
    parser.add_argument("--divisor", type=float, default=8.0, metavar="X", help=(
        "multiply-adds of the VGG's 3 x 3 layers are divided by this (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--images", type=int, default=64, metavar="N", help=(
        "training images that decide which directions are kept (default: %(default)s)"
    ))  # fmt: skip
    AUGMENT.add(parser, "for the head", default=3)
    SEED.add(parser, "for the draw of these images", default=0)
    OUT.add(parser, "the slim model's run", required=True)
    OVERWRITE.add(parser)
    add_feature_cache(parser, old="--cache")
    QUIET.add(parser)
    JSON.add(parser, "the run card")
    parser.epilog = (
        "No layer of a backbone is trained: the VGG's are factored in closed form; then the head is taught, on\n"
        "training images.\n\n"
        "example:\n"
        "  sonoedge slim --teacher runs/busi --data BUSI --out runs/slim\n"
        "  sonoedge export --model runs/slim --format tflite-int8,tflite-fp32 --out bundle-slim"
    )


def run(args: argparse.Namespace) -> int:
    """Make the slim model and write its run folder; returns the exit code."""
    check_new_run(args.out, overwrite=args.overwrite)
    check_ranges(
        ("--divisor", args.divisor, 1.0, 64.0),
        ("--images", args.images, 1, 10_000),
        ("--augment", args.augment, 0, 100),
        ("--seed", args.seed, *SEED_RANGE),
    )
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.train.distillation.slim import SlimSettings, slim
    settings = SlimSettings(str(args.teacher), args.data, args.divisor, args.images, args.augment, args.seed)
    card = slim(settings, args.out, cache=args.cache, progress=not args.quiet, verbose=not args.json)
    if args.json:
        print(json.dumps(card))
    return 0
