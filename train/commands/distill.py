"""``sonoedge distill``: a trained run -> the run of a compact student."""

from __future__ import annotations

import argparse
from pathlib import Path

from sonoedge.train.records.reader import record_text
from sonoedge.train.records.settings import DistillSettings
from sonoedge.train.terminal import shown

_USUAL = DistillSettings("", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge distill``."""
    parser.add_argument("--teacher", required=True, type=Path, metavar="RUN", help="finished run folder")
    parser.add_argument("--data", required=True, metavar="DIR", help="the images that the teacher was trained on")
    parser.add_argument("--student", default=_USUAL.student, metavar="NAME", help=(
        "efficientnet-lite0, mobilenetv2 or efficientnetb0 (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--weights", default=_USUAL.weights, metavar="imagenet|none|DIR", help=(
        "what the student starts from; DIR holds <backbone>_notop.weights.h5 (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--input-size", type=int, metavar="PIXELS", help="default: 192")
    parser.add_argument("--augment", type=int, default=_USUAL.augment, metavar="N", help=(
        "augmented copies per training image (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--epochs", type=int, default=_USUAL.fit.epochs, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=_USUAL.fit.batch_size, metavar="N", help=(
        "default: %(default)s"
    ))  # fmt: skip
    parser.add_argument("--learning-rate", type=float, default=_USUAL.fit.learning_rate, metavar="RATE", help=(
        "default: %(default)s"
    ))  # fmt: skip
    parser.add_argument("--seed", type=int, default=_USUAL.seed, help="of the batches and of untrained weights")
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
    from sonoedge.train.api import distill

    with shown(lines=not args.json):
        finished = distill(
            args.teacher,
            args.data,
            student=args.student,
            weights=args.weights,
            input_size=args.input_size,
            augment=args.augment,
            epochs=args.epochs,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            seed=args.seed,
            out=args.out,
            overwrite=args.overwrite,
            cache=args.cache,
            progress=not args.quiet,
        )
    if args.json:
        print(record_text(finished.card, indent=None), end="")
    return 0
