"""``sonoedge train``: images -> run folder."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from sonoedge.edge_runtime.commands.options import CLASSES, DATA, JSON, OUT, QUIET, SKIP_UNREADABLE
from sonoedge.train.commands.options import (
    AUGMENT,
    BATCH_SIZE,
    EPOCHS,
    GROUPS,
    INPUT_SIZE,
    LEARNING_RATE,
    OVERWRITE,
    SEED,
    WEIGHTS,
    add_feature_cache,
)
from sonoedge.train.config.options import OPTIONS, RECIPES
from sonoedge.train.records.reader import record_text
from sonoedge.train.records.settings import DEFAULT_COPIES, END_TO_END, PAPER, Protocol, TrainSettings
from sonoedge.train.terminal import shown

_USUAL = TrainSettings("")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge train``.

    None of them has a default here: an option that is not given is left to the file of ``--config``, or else to
    `train.records.settings.TrainSettings`.
    """
    switch: dict[str, Any] = {"action": argparse.BooleanOptionalAction, "default": None}
    parser.add_argument("--config", metavar="FILE", help=(
        "a YAML file with options, or a run to repeat (its folder or its run.json); options given here win"
    ))  # fmt: skip
    parser.add_argument("--print-config", action="store_true", help="print such a YAML file instead of training")
    data = parser.add_argument_group("data")
    DATA.add(data, "class folders, BUSI, BUS-BRA or the Kaggle set; again for each further source", action="append")
    CLASSES.add(data)
    data.add_argument("--split", metavar="grouped|paper|FILE", help=(
        "grouped: by source image or patient (default); paper: stratified random; or the split.json of another run"
    ))  # fmt: skip
    GROUPS.add(data, "instead of the folder's own groups")
    SKIP_UNREADABLE.add(data, **switch)
    model = parser.add_argument_group("model")
    model.add_argument("--backbones", metavar="A,B", help=f"default: {_USUAL.backbones}")
    WEIGHTS.add(model, "DIR holds <backbone>_notop.weights.h5", shown=_USUAL.weights)
    model.add_argument("--preprocessing", choices=["native", "unit"], help=(
        "native: what each backbone was trained on (default); unit: [0, 1] for all, as the paper says"
    ))  # fmt: skip
    model.add_argument("--maps", choices=["last", "stages", "lesion"], help=(
        "last: each backbone's last map, as in the paper; stages: EfficientNetB0's earlier stages too, which costs "
        "nothing; lesion: a finer grid, weighted by the predicted lesion (default: stages, with --protocol paper "
        "last, with --recipe compact lesion)"
    ))  # fmt: skip
    model.add_argument("--pooling", choices=["gap", "flatten"], help=f"default: {_USUAL.pooling}")
    model.add_argument("--units", metavar="N,…", help=(
        f"widths of the dense layers (default: {','.join(map(str, _USUAL.units))})"
    ))  # fmt: skip
    model.add_argument("--dropout", type=float, help=f"of gradient training (default: {_USUAL.dropout})")
    INPUT_SIZE.add(model, shown=str(_USUAL.input_size))
    fit = parser.add_argument_group("fit")
    fit.add_argument("--recipe", choices=list(RECIPES), help=(
        "a set of options; fused: the paper's network (default); compact: a small network, all of it trained, for "
        "speed and for other scanners"
    ))  # fmt: skip
    fit.add_argument("--protocol", choices=list(get_args(Protocol)), help=(
        "default: logistic regression, written into the dense layers; paper: Adam 1e-5, batch 16, 24 epochs; "
        "end-to-end: all layers on augmented images"
    ))  # fmt: skip
    SEED.add(fit, "for the split, the initial weights and the batches", shown=str(_USUAL.seed))
    fit.add_argument("--sweep", metavar="FILE", help=(
        "TOML with lists of learning_rate, batch_size, units, weight_decay: the best on validation is trained"
    ))  # fmt: skip
    AUGMENT.add(fit, shown=f"{DEFAULT_COPIES}, with --protocol paper 0")
    EPOCHS.add(fit, "with --protocol paper, at most", shown=f"{PAPER.epochs}, end-to-end {END_TO_END.epochs}")
    BATCH_SIZE.add(fit, "of gradient training", shown=str(PAPER.batch_size))
    LEARNING_RATE.add(
        fit, "of gradient training", shown=f"{PAPER.learning_rate}, end-to-end {END_TO_END.learning_rate}"
    )
    fit.add_argument("--fine-tune", metavar="REGEX", help="then train these layers too, e.g. 'vgg19/block5_.*'")
    fit.add_argument("--fine-tune-epochs", type=int, help=f"default: {_USUAL.fine_tune_epochs}")
    fit.add_argument("--fine-tune-rate", type=float, metavar="RATE", help=f"default: {_USUAL.fine_tune_rate}")
    fit.add_argument("--average-weights", **switch, help=(
        "fine-tuning keeps the running mean of the weights, not the last ones"
    ))  # fmt: skip
    fit.add_argument("--weight-decay", type=float, metavar="X", help=(
        f"with --protocol end-to-end (default: {_USUAL.weight_decay})"
    ))  # fmt: skip
    fit.add_argument("--warm-up", type=float, metavar="SHARE", help=(
        f"share of the steps in which the rate rises (default: {_USUAL.warm_up})"
    ))  # fmt: skip
    fit.add_argument("--label-smoothing", type=float, metavar="X", help=f"default: {_USUAL.label_smoothing}")
    fit.add_argument("--lesion-weight", type=float, metavar="X", help=(
        f"weight of the lesion masks' loss, with --maps lesion (default: {_USUAL.lesion_weight})"
    ))  # fmt: skip
    fit.add_argument("--augment-policy", metavar="MODULE:FUNCTION", help=(
        "how training images are changed, with --protocol end-to-end (default: as by another hand and scanner)"
    ))  # fmt: skip
    fit.add_argument("--workers", type=int, metavar="N", help=(
        "processes that compute features; the result is the same (default: 1)"
    ))  # fmt: skip
    fit.add_argument("--mixed-precision", **switch, help="float16 computation on a GPU (Keras policy)")
    fit.add_argument("--data-parallel", **switch, help="all GPUs (Keras distribution; JAX backend)")
    out = parser.add_argument_group("output")
    OUT.add(out, "the run", shown="runs/<date>-<time>")
    OVERWRITE.add(out, default=None)
    add_feature_cache(out, old="--cache")
    out.add_argument("--log", action="extend", type=lambda text: text.split(","), metavar="A,B", help=(
        "csv: history.csv and metrics.csv in the run folder; tensorboard: its folder tensorboard; mlflow: where "
        "MLFLOW_TRACKING_URI says"
    ))  # fmt: skip
    QUIET.add(out)
    JSON.add(out, "the run card")
    parser.epilog = (
        "Frozen backbones see each image once: features are cached, and an interrupted run goes on from there.\n\n"
        "examples:\n"
        "  sonoedge train --data BUSI --out runs/busi\n"
        "  sonoedge train --data BUSI --data BUS-UCLM --recipe compact --out runs/compact\n"
        "  sonoedge train --data BUSI --weights weights/ --protocol paper --split paper --out runs/paper\n"
        "  sonoedge train --data BUSI --backbones mobilenetv2 --augment 4 --fine-tune 'mobilenetv2/block_16_.*'\n"
        "  sonoedge train --config runs/busi --seed 1 --out runs/busi-1"
    )


def run(args: argparse.Namespace) -> int:
    """Train and write the run folder; returns the exit code."""
    options = {name: value for name, value in vars(args).items() if name in OPTIONS}
    if args.print_config:
        from sonoedge.train.config.request import config_text, request_of

        print(config_text(request_of(options, args.config).settings), end="")
        return 0
    from sonoedge.train.api import train

    with shown(lines=not args.json):
        finished = train(**options, config=args.config, progress=args.progress)
    if args.json:
        print(record_text(finished.card, indent=None), end="")
    return 0
