"""``sonoedge slim``: a trained run -> the run of the same architecture with a slim VGG."""

from __future__ import annotations

import argparse

from sonoedge.edge_runtime.commands.options import DATA, JSON, OUT, QUIET
from sonoedge.train.commands.options import AUGMENT, OVERWRITE, SEED, TEACHER, add_feature_cache
from sonoedge.train.records.reader import record_text
from sonoedge.train.records.settings import SlimSettings
from sonoedge.train.terminal import shown

_USUAL = SlimSettings("", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge slim``."""
    TEACHER.add(parser, "with a VGG", required=True)
    DATA.add(parser, "those that the teacher was trained on", required=True)
    parser.add_argument("--divisor", type=float, default=_USUAL.divisor, metavar="X", help=(
        "multiply-adds of the VGG's 3 x 3 layers are divided by this (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--images", type=int, default=_USUAL.images, metavar="N", help=(
        "training images that decide which directions are kept (default: %(default)s)"
    ))  # fmt: skip
    AUGMENT.add(parser, "for the head", default=_USUAL.augment)
    SEED.add(parser, "for the draw of these images", default=_USUAL.seed)
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
    from sonoedge.train.api import slim

    with shown(lines=not args.json):
        finished = slim(
            args.teacher,
            args.data,
            divisor=args.divisor,
            images=args.images,
            augment=args.augment,
            seed=args.seed,
            out=args.out,
            overwrite=args.overwrite,
            cache=args.cache,
            progress=args.progress,
        )
    if args.json:
        print(record_text(finished.card, indent=None), end="")
    return 0
