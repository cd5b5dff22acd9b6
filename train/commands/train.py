"""``sonoedge train``: images -> run folder."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from sonoedge.edge_runtime.commands.options import CLASSES, DATA, JSON, OUT, QUIET, SKIP_UNREADABLE
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.commands.options import (
    AUGMENT,
    DEFAULT_COPIES,
    GROUPS,
    INPUT_SIZE,
    OVERWRITE,
    PIXEL_RANGE,
    SEED,
    SEED_RANGE,
    WEIGHTS,
    add_feature_cache,
    check_new_run,
    check_ranges,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge train``."""
    data = parser.add_argument_group("data")
    DATA.add(data, "class folders, BUSI, BUS-BRA or the Kaggle set", required=True)
    CLASSES.add(data)
    data.add_argument("--split", default="grouped", metavar="grouped|paper|FILE", help=(
        "grouped: by source image or patient (default); paper: stratified random; or the split.json of another run"
    ))  # fmt: skip
    GROUPS.add(data, "instead of the folder's own groups")
    SKIP_UNREADABLE.add(data)
    model = parser.add_argument_group("model")
    model.add_argument("--backbones", default="vgg19,efficientnetb0", metavar="A,B", help="default: %(default)s")
    WEIGHTS.add(model, "DIR holds <backbone>_notop.weights.h5", default="imagenet")
    model.add_argument("--preprocessing", default="native", choices=["native", "unit"], help=(
        "native: what each backbone was trained on (default); unit: [0, 1] for all, as the paper says"
    ))  # fmt: skip
    model.add_argument("--maps", choices=["last", "stages"], help=(
        "last: each backbone's last map, as in the paper; stages: EfficientNetB0's earlier stages too, which costs "
        "nothing (default: stages, with --protocol paper last)"
    ))  # fmt: skip
    model.add_argument("--pooling", default="gap", choices=["gap", "flatten"], help="default: %(default)s")
    model.add_argument("--units", default="256", metavar="N,…", help="widths of the dense layers (default: 256)")
    model.add_argument("--dropout", type=float, default=0.5, help="default: %(default)s")
    INPUT_SIZE.add(model, default=224)
    fit = parser.add_argument_group("fit")
    fit.add_argument("--protocol", default="default", choices=["default", "paper"], help=(
        "default: logistic regression, written into the dense layers; paper: Adam 1e-5, batch 16, 24 epochs"
    ))  # fmt: skip
    SEED.add(fit, "for the split, the initial weights and the batches", default=0)
    fit.add_argument("--sweep", metavar="FILE", help=(
        "TOML with lists of learning_rate, batch_size, units, weight_decay: the best on validation is trained"
    ))  # fmt: skip
    AUGMENT.add(fit, shown=f"{DEFAULT_COPIES}, with --protocol paper 0")
    fit.add_argument("--fine-tune", metavar="REGEX", help="then train these layers too, e.g. 'vgg19/block5_.*'")
    fit.add_argument("--fine-tune-epochs", type=int, default=10, help="default: %(default)s")
    fit.add_argument("--fine-tune-rate", type=float, default=1e-5, metavar="RATE", help="default: %(default)s")
    fit.add_argument("--average-weights", action="store_true", help=(
        "fine-tuning keeps the running mean of the weights, not the last ones"
    ))  # fmt: skip
    fit.add_argument("--workers", type=int, default=1, metavar="N", help=(
        "processes that compute features; the result is the same (default: %(default)s)"
    ))  # fmt: skip
    fit.add_argument("--mixed-precision", action="store_true", help="float16 computation on a GPU (Keras policy)")
    fit.add_argument("--data-parallel", action="store_true", help="all GPUs (Keras distribution; JAX backend)")
    out = parser.add_argument_group("output")
    OUT.add(out, "the run", shown="runs/<date>-<time>")
    OVERWRITE.add(out)
    add_feature_cache(out, old="--cache")
    QUIET.add(out)
    JSON.add(out, "the run card")
    parser.epilog = (
        "Frozen backbones see each image once: features are cached, and an interrupted run goes on from there.\n\n"
        "examples:\n"
        "  sonoedge train --data BUSI --out runs/busi\n"
        "  sonoedge train --data BUSI --weights weights/ --protocol paper --split paper --out runs/paper\n"
        "  sonoedge train --data BUSI --backbones mobilenetv2 --augment 4 --fine-tune 'mobilenetv2/block_16_.*'"
    )


def run(args: argparse.Namespace) -> int:
    """Train and write the run folder; returns the exit code."""
    out = args.out or Path("runs") / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    check_new_run(out, overwrite=args.overwrite)
    if args.sweep and args.protocol == "paper":
        raise UsageError("--sweep chooses what --protocol paper fixes: use one of them.")
    units = _integers(args.units, "--units")
    copies = args.augment if args.augment is not None else 0 if args.protocol == "paper" else DEFAULT_COPIES
    check_ranges(
        ("--dropout", args.dropout, 0.0, 0.99),
        ("--input-size", args.input_size, *PIXEL_RANGE),
        ("--augment", copies, 0, 100),
        ("--fine-tune-epochs", args.fine_tune_epochs, 1, 10_000),
        ("--fine-tune-rate", args.fine_tune_rate, 1e-9, 1.0),
        ("--workers", args.workers, 1, 256),
        ("--seed", args.seed, *SEED_RANGE),
    )
    # Keras takes seconds to import: only now, after the arguments are known to be good.
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.train.fitting.trainer import TrainSettings, train

    settings = TrainSettings(
        data=args.data,
        classes=tuple(args.classes.split(",")) if args.classes else None,
        split=args.split,
        groups=args.groups,
        skip_unreadable=args.skip_unreadable,
        backbones=args.backbones,
        weights=args.weights,
        preprocessing=args.preprocessing,
        maps=args.maps or ("last" if args.protocol == "paper" else "stages"),
        pooling=args.pooling,
        units=units,
        dropout=args.dropout,
        input_size=args.input_size,
        protocol=args.protocol,
        seed=args.seed,
        sweep=args.sweep,
        augment=copies,
        fine_tune=args.fine_tune,
        fine_tune_epochs=args.fine_tune_epochs,
        fine_tune_rate=args.fine_tune_rate,
        average_weights=args.average_weights,
        mixed_precision=args.mixed_precision,
        data_parallel=args.data_parallel,
    )
    card = train(
        settings, out, cache=args.cache, workers=args.workers, progress=not args.quiet, verbose=not args.json
    )
    if args.json:
        print(json.dumps(card))
    return 0


def _integers(text: str, option: str) -> tuple[int, ...]:
    try:
        values = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(f"{option} takes whole numbers separated by commas. Received: {text!r}.") from error
    if any(value < 1 for value in values):
        raise UsageError(f"{option} takes positive numbers. Received: {text!r}.")
    return values
