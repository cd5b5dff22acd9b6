"""``sonoedge export``: run folder or Keras model -> bundle."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sonoedge.edge_runtime.commands.options import (
    AGREEMENT_DATA,
    DATA,
    DEFAULT,
    JSON,
    MAX_FLIPS,
    MODEL,
    OUT,
    QUIET,
    old_spelling,
)
from sonoedge.export.api import PRECISIONS, export
from sonoedge.export.bundle.exported import ExportedBundle
from sonoedge.export.bundle.limits import add_limits
from sonoedge.train.arguments import call_with, take_defaults
from sonoedge.train.commands.options import FORMAT, SEED, add_feature_cache
from sonoedge.train.tables import Column, fitted
from sonoedge.train.terminal import shown

_COLUMNS = (
    Column("artifact", 16, left=True), Column("precision", 11, left=True), Column("MB", 8), Column("threshold", 11),
    Column("|logit - Keras| on golden images", 35),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge export``."""
    from sonoedge.export.formats import FORMATS
    from sonoedge.export.targets.table import TARGETS

    MODEL.add(parser, "a .keras file will do, too, with --labels", shown="the newest under ./runs")
    OUT.add(parser, "the bundle", shown="./bundle")
    FORMAT.add(parser, ", ".join(FORMATS), dest="formats", shown=DEFAULT)
    DATA.add(parser, "the run's", type=Path, shown="where the run read them")
    parser.add_argument("--calibration-data", type=Path, metavar="DIR", help=(
        "own representative images (default: training images of the run)"
    ))  # fmt: skip
    parser.add_argument("--num-calibration-samples", type=int, metavar="N", help="default: %(default)s")
    SEED.add(parser, "for the choice of calibration images", shown=DEFAULT)
    guard = parser.add_argument_group("int8 accuracy guard")
    guard.add_argument("--max-drop", type=float, metavar="X", help=(
        "largest drop in accuracy and in AUC on validation, absolute (default: %(default)s)"
    ))  # fmt: skip
    MAX_FLIPS.add(guard, shown=DEFAULT)
    AGREEMENT_DATA.add(guard, (
        "flips need no labels. An images.csv may name patients (image,patient). The answers are stored in the "
        "bundle for `sonoedge verify --agreement-data` on the device"
    ))  # fmt: skip
    guard.add_argument("--allow-drop", action="store_true", help="take the nearest candidate when none is within")
    guard.add_argument("--float16-weights", action="store_true", help=(
        "store what stays in float as float16 in TensorFlow Lite files too: smaller, but slow in browsers"
    ))  # fmt: skip
    guard.add_argument("--precision", choices=PRECISIONS, help=(
        "of the int8 formats. guard: search (default); mixed: the best mix found; w8a8, w8a16: "
        "no search (a file outside the budget is written with the words 'no accuracy promise'); "
        "dynamic, fp16, fp32: write that format of the same runtime instead"
    ))  # fmt: skip
    guard.add_argument("--target", choices=tuple(TARGETS), help=(
        "hardware of the tflite-int8 file. cpu (default): fragile operators may stay in float; the others: int8 "
        "from input to maps, each operator on the target's list. ethos-u55, -u65, -u85: Arm's compiler must place "
        "all of it on the NPU (extra ethos-u)"
    ))  # fmt: skip
    recipe = guard.add_argument("--quantization-recipe", dest="recipe", type=Path, metavar="FILE", help=(
        'own recipe instead of the search: {"base": "w8a8", "ranges": "percentile", "rules": [{"regex": …, '
        '"operation": "*", "precision": "float"}]}; a bundle\'s artifacts[].recipe repeats its export'
    ))  # fmt: skip
    old_spelling(guard, "--recipe", recipe)
    guard.add_argument("--layer-report", type=Path, metavar="DIR", help=(
        "write the error of every tensor against float32, as JSON and plot"
    ))  # fmt: skip
    add_limits(parser)
    quantized = parser.add_argument("--quantized-cache", dest="cache", type=Path, metavar="DIR", help=(
        "quantized files and their measurements (default: ~/.cache/sonoedge/quantized)"
    ))  # fmt: skip
    old_spelling(parser, "--cache", quantized)
    add_feature_cache(parser, "for the out-of-domain gate")
    parser.add_argument("--no-gate", dest="gate", action="store_false", help=(
        "leave out the out-of-domain gate, which needs the run's images: nothing tells the device then which "
        "pictures are unlike those of training"
    ))  # fmt: skip
    parser.add_argument("--split-layer", metavar="NAME", help=(
        "layer whose output is the feature map (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--labels", metavar="A,B", help="class names of a .keras file, the positive one last")
    parser.add_argument("--threshold", type=float, help="probability (default: the run's; 0.5 for a .keras file)")
    parser.add_argument("--sensitivity", type=float, metavar="X", help=(
        "operating point: the highest threshold with this sensitivity on the run's validation images"
    ))  # fmt: skip
    parser.add_argument("--name", help="name of the bundle (default: the run's)")
    QUIET.add(parser)
    JSON.add(parser, "the bundle's artifacts")
    take_defaults(parser, export)
    parser.epilog = (
        "examples:\n"
        "  sonoedge export --format tflite-int8\n"
        "  sonoedge export --model runs/busi --format all --out bundle\n"
        "  sonoedge export --model runs/busi --format all --max-ms 100 --max-mb 30\n"
        "  sonoedge export --model runs/student --format tflite-int8 --target ethos-u55\n"
        "  sonoedge export --model my.keras --labels benign,malignant --calibration-data frames/ --out bundle"
    )


def run(args: argparse.Namespace) -> int:
    """Export and verify; returns the exit code."""
    with shown(lines=not args.json):
        bundle = call_with(export, args)
    print(json.dumps(bundle.to_json()) if args.json else _table(bundle))
    return 0


def _table(bundle: ExportedBundle) -> str:
    rows = [
        [a.name, a.precision, f"{a.size_bytes / 1e6:.1f}", f"{a.threshold:.3f}",
         f"{a.metrics['golden_logit_error']:.1e}"]
        for a in bundle.artifacts
    ]  # fmt: skip
    lines = [f"\n{fitted(_COLUMNS, rows)}"]
    lines += [f"wrote {bundle.path}", bundle.intended_use]
    # At the end, where nobody overlooks them.
    lines += [f"{a.name}: {a.promise.text}" for a in bundle.artifacts if a.promise and not a.promise.kept]
    return "\n".join(lines)
