"""``sonoedge slim``: a trained run -> the run of the same architecture with a slim VGG."""

from __future__ import annotations

import argparse
from pathlib import Path

from sonoedge.train.records.reader import record_text
from sonoedge.train.records.settings import SlimSettings
from sonoedge.train.terminal import shown

_USUAL = SlimSettings("", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge slim``."""
    parser.add_argument("--teacher", required=True, type=Path, metavar="RUN", help="finished run with a VGG")
    parser.add_argument("--data", required=True, metavar="DIR", help="the images that it was trained on")
    parser.add_argument("--divisor", type=float, default=_USUAL.divisor, metavar="X", help=(
        "multiply-adds of the VGG's 3 x 3 layers are divided by this (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--images", type=int, default=_USUAL.images, metavar="N", help=(
        "training images that decide which directions are kept (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--augment", type=int, default=_USUAL.augment, metavar="N", help=(
        "augmented copies per training image, for the head (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--seed", type=int, default=_USUAL.seed, help="of the draw of these images")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN2", help="run folder of the slim model")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="default: ~/.cache/sonoedge/features")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the run card as one JSON object")
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
            progress=not args.quiet,
        )
    if args.json:
        print(record_text(finished.card, indent=None), end="")
    return 0
