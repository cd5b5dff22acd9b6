"""``sonoedge distill``: a trained run -> the run of a compact student."""

from __future__ import annotations

import argparse

from sonoedge.edge_runtime.commands.options import DATA, JSON, OUT, QUIET
from sonoedge.train.commands.options import (
    AUGMENT,
    BATCH_SIZE,
    EPOCHS,
    INPUT_SIZE,
    LEARNING_RATE,
    OVERWRITE,
    SEED,
    TEACHER,
    WEIGHTS,
    add_feature_cache,
)
from sonoedge.train.records.reader import record_text
from sonoedge.train.records.settings import DistillSettings
from sonoedge.train.terminal import shown

_USUAL = DistillSettings("", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge distill``."""
    TEACHER.add(parser, required=True)
    DATA.add(parser, "those that the teacher was trained on", required=True)
    parser.add_argument("--student", default=_USUAL.student, metavar="NAME", help=(
        "efficientnet-lite0, mobilenetv2 or efficientnetb0 (default: %(default)s)"
    ))  # fmt: skip
    WEIGHTS.add(parser, (
        "what the student starts from; DIR holds <backbone>_notop.weights.h5"
    ), default=_USUAL.weights)  # fmt: skip
    INPUT_SIZE.add(parser, shown="192")
    AUGMENT.add(parser, default=_USUAL.augment)
    EPOCHS.add(parser, default=_USUAL.fit.epochs)
    BATCH_SIZE.add(parser, default=_USUAL.fit.batch_size)
    LEARNING_RATE.add(parser, default=_USUAL.fit.learning_rate)
    SEED.add(parser, "for the batches and untrained weights", default=_USUAL.seed)
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
            progress=args.progress,
        )
    if args.json:
        print(record_text(finished.card, indent=None), end="")
    return 0
