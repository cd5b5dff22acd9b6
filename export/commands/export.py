"""``sonoedge export``: run folder or Keras model -> bundle."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonoedge.edge_runtime.bundle.contract import MANIFEST, Bundle
from sonoedge.edge_runtime.commands.options import (
    AGREEMENT_DATA,
    DATA,
    JSON,
    MAX_FLIPS,
    MODEL,
    OUT,
    QUIET,
    old_spelling,
)
from sonoedge.edge_runtime.errors import DataError, MissingExtraError, UsageError
from sonoedge.train.commands.options import FORMAT, SEED, add_feature_cache
from sonoedge.train.folders import check_replaceable
from sonoedge.train.tables import Column, fitted

if TYPE_CHECKING:
    from sonoedge.export.gate.images import GateImages
    from sonoedge.export.guard.agreement import AgreementFrames
    from sonoedge.export.quantize.calibration import CalibrationSet
    from sonoedge.train.data.dataset import Dataset
    from sonoedge.train.evaluation.run_folder import Run


_COLUMNS = (
    Column("artifact", 16, left=True), Column("precision", 11, left=True), Column("MB", 8), Column("threshold", 11),
    Column("|logit - Keras| on golden images", 35),
)  # fmt: skip
_OTHER_FORMATS = ("dynamic", "fp16", "fp32")
PRECISIONS = ("guard", "w8a8", "w8a16", "mixed", *_OTHER_FORMATS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge export``."""
    from sonoedge.export.formats import FORMATS

    MODEL.add(parser, "a .keras file will do, too, with --labels", shown="the newest under ./runs")
    OUT.add(parser, "the bundle", default=Path("bundle"), shown="./bundle")
    FORMAT.add(parser, ", ".join(FORMATS), default="tflite-int8")
    DATA.add(parser, "the run's", type=Path, shown="where the run read them")
    parser.add_argument("--calibration-data", type=Path, metavar="DIR", help=(
        "own representative images (default: training images of the run)"
    ))  # fmt: skip
    parser.add_argument(
        "--num-calibration-samples", type=int, default=300, metavar="N", help="default: %(default)s"
    )
    SEED.add(parser, "for the choice of calibration images", default=0)
    guard = parser.add_argument_group("int8 accuracy guard")
    guard.add_argument("--max-drop", type=float, default=0.01, metavar="X", help=(
        "largest drop in accuracy and in AUC on validation, absolute (default: %(default)s)"
    ))  # fmt: skip
    MAX_FLIPS.add(guard, default=0.01)
    AGREEMENT_DATA.add(guard, (
        "flips need no labels. An images.csv may name patients (image,patient). The answers are stored in the "
        "bundle for `sonoedge verify --agreement-data` on the device"
    ))  # fmt: skip
    guard.add_argument("--allow-drop", action="store_true", help="take the nearest candidate when none is within")
    guard.add_argument("--float16-weights", action="store_true", help=(
        "store what stays in float as float16 in TensorFlow Lite files too: smaller, but slow in browsers"
    ))  # fmt: skip
    guard.add_argument("--precision", default="guard", choices=PRECISIONS, help=(
        "of the int8 formats. guard: search (default); mixed: the best mix found; w8a8, w8a16: "
        "no search (a file outside the budget is written with the words 'no accuracy promise'); "
        "dynamic, fp16, fp32: write that format of the same runtime instead"
    ))  # fmt: skip
    guard.add_argument("--recipe", type=Path, metavar="FILE", help=(
        'own recipe instead of the search: {"base": "w8a8", "ranges": "percentile", "rules": [{"regex": …, '
        '"operation": "*", "precision": "float"}]}; a bundle\'s artifacts[].recipe repeats its export'
    ))  # fmt: skip
    guard.add_argument("--layer-report", type=Path, metavar="DIR", help=(
        "write the error of every tensor against float32, as JSON and plot"
    ))  # fmt: skip
    quantized = parser.add_argument("--quantized-cache", dest="cache", type=Path, metavar="DIR", help=(
        "quantized files and their measurements (default: ~/.cache/sonoedge/quantized)"
    ))  # fmt: skip
    old_spelling(parser, "--cache", quantized)
    add_feature_cache(parser, "for the out-of-domain gate")
    parser.add_argument("--no-gate", action="store_true", help=(
        "leave out the out-of-domain gate, which needs the run's images: nothing tells the device then which "
        "pictures are unlike those of training"
    ))  # fmt: skip
    parser.add_argument("--split-layer", default="features", metavar="NAME", help=(
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
    parser.epilog = (
        "examples:\n"
        "  sonoedge export --format tflite-int8\n"
        "  sonoedge export --model runs/busi --format all --out bundle\n"
        "  sonoedge export --model my.keras --labels benign,malignant --calibration-data frames/ --out bundle"
    )


def run(args: argparse.Namespace) -> int:
    """Export and verify; returns the exit code.

    The bundle appears only if every artifact agrees with the Keras model.
    """
    from sonoedge.export.formats import parse_formats, with_precision

    rows = parse_formats(args.format)
    if args.precision in _OTHER_FORMATS and not args.recipe:
        rows = with_precision(rows, args.precision)
    if args.threshold is not None and not 0.0 <= args.threshold <= 1.0:
        raise UsageError(f"--threshold is a probability. Received: {args.threshold}.")
    for option, value in (("--max-drop", args.max_drop), ("--max-flips", args.max_flips)):
        if not 0.0 <= value <= 1.0:
            raise UsageError(f"{option} is a share from 0 to 1. Received: {value}.")
    check_replaceable(args.out, marker=MANIFEST)
    _require(rows)
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.export.bundle.pipeline import export_bundle
    request = _request(args, rows)
    say = (lambda line: None) if args.json else (lambda line: print(line, flush=True))
    for warning in request.calibration.warnings if request.calibration else ():
        print(f"warning: {warning}", file=sys.stderr)
    if request.model.not_closed:
        say(f"note: the head has no closed form ({request.model.not_closed}); TensorFlow's gradient is exported.")
    if request.gate is None and not args.no_gate:
        say(
            "note: the bundle has no out-of-domain gate. For a model without a run it is fitted to the images of "
            "--calibration-data, at least 8."
        )
    elif request.gate is not None and request.run is None:
        say("note: the out-of-domain gate is fitted to the calibration images; the training images are not known.")
    bundle = export_bundle(request, args.out, progress=not args.quiet, say=say)
    print(json.dumps(_summary(bundle)) if args.json else _table(bundle))
    return 0


def _require(rows: tuple) -> None:
    """Fail before the long work if the interpreter of a format is missing."""
    from sonoedge.edge_runtime.backends import is_available

    for row in rows:
        if not is_available(row.runtime):
            raise MissingExtraError(f"An interpreter for {row.name}", "export")


def _request(args: argparse.Namespace, rows: tuple):  # type: ignore[no-untyped-def]
    from sonoedge.export.bundle.pipeline import ExportRequest
    from sonoedge.export.convert.splitting import split_model
    from sonoedge.export.guard.comparison import Budget
    from sonoedge.export.guard.int8 import Int8Policy
    from sonoedge.export.quantize.calibration import calibration_from_folder, calibration_from_run
    from sonoedge.export.quantize.recipes import read_recipe
    from sonoedge.train.evaluation.run_folder import load_subsets, newest_run, open_run
    from sonoedge.train.models.fusion import load_model

    path = args.model or newest_run()
    run_folder = None if path.suffix == ".keras" else open_run(path)
    labels = tuple(args.labels.split(",")) if args.labels else ()
    if run_folder is None and len(labels) != 2:
        raise UsageError("A .keras file needs --labels NEGATIVE,POSITIVE.")
    labels = run_folder.split.labels if run_folder else labels
    calibration = data = None
    recipe = read_recipe(args.recipe) if args.recipe else None
    measured = any(row.is_measured for row in rows)
    if run_folder and measured:
        data = load_subsets(run_folder, args.data)
    elif run_folder and not args.no_gate:
        try:
            data = load_subsets(run_folder, args.data)
        except DataError as error:
            raise DataError(f"{error} Or leave the out-of-domain gate out with --no-gate.") from error
    draw = {"count": args.num_calibration_samples, "seed": args.seed, "progress": not args.quiet}
    if any(row.needs_calibration for row in rows):
        if args.calibration_data is not None:
            calibration = calibration_from_folder(args.calibration_data, data, labels, **draw)
        elif data is not None:
            calibration = calibration_from_run(data, **draw)
        else:
            raise UsageError("int8 formats of a .keras file need --calibration-data DIR.")
    own = calibration
    if own is None and run_folder is None and args.calibration_data is not None:
        own = calibration_from_folder(args.calibration_data, None, labels, **draw)
    return ExportRequest(
        model=split_model(load_model(path), args.split_layer),
        labels=labels,
        formats=rows,
        name=args.name or (path.stem if run_folder is None else path.resolve().name),
        threshold=_threshold(args, run_folder),
        run=run_folder,
        calibration=calibration,
        calibration_seed=args.seed,
        int8=Int8Policy(
            Budget(args.max_drop, args.max_flips),
            args.precision,
            recipe,
            args.allow_drop,
            data["val"] if data else None,
            args.layer_report,
            args.float16_weights,
            _frames(args, data if measured else None, calibration),
        ),
        cache=args.cache,
        features=args.feature_cache,
        gate=None if args.no_gate else _gate_images(run_folder, data, own),
    )


def _gate_images(
    run_folder: Run | None, data: dict[str, Dataset] | None, calibration: CalibrationSet | None
) -> GateImages | None:
    """The images that the gate is fitted to; None for a bare model without enough calibration images."""
    from sonoedge.export.gate.images import MINIMUM, copies_of, images_of_folder, images_of_run

    if run_folder is not None and data is not None:
        return images_of_run(data, copies_of(run_folder))
    if calibration is not None and len(calibration.paths) >= MINIMUM:
        return images_of_folder(calibration.paths, calibration.digests)
    return None


def _frames(args: argparse.Namespace, data: Any, calibration: CalibrationSet | None) -> AgreementFrames | None:
    """The unlabelled frames; neither the run nor the calibration may have used one of them."""
    if args.agreement_data is None:
        return None
    if data is None:
        raise UsageError("--agreement-data needs a run folder, and a quantized format to compare with float32.")
    from sonoedge.export.guard.agreement import agreement_frames

    used = dict.fromkeys(calibration.digests if calibration else (), "calibration")
    used |= {s.sha256: subset for subset, images in data.items() for s in images.samples}
    return agreement_frames(args.agreement_data, used)


def _threshold(args: argparse.Namespace, run_folder: Run | None) -> float:
    """Threshold of the full model: as given, for a sensitivity, or the run's own."""
    if args.sensitivity is None:
        own = run_folder.threshold if run_folder else 0.5
        return own if args.threshold is None else float(args.threshold)
    if args.threshold is not None or run_folder is None:
        raise UsageError("--sensitivity needs a run folder, and goes not together with --threshold.")
    from sonoedge.train.evaluation.run_folder import validation_logits
    from sonoedge.train.evaluation.thresholds import threshold_for_sensitivity

    return threshold_for_sensitivity(*validation_logits(run_folder), args.sensitivity)


def _summary(bundle: Bundle) -> dict:
    return {
        "bundle": str(bundle.path),
        "artifacts": [
            {"name": a.name, "precision": a.precision, "size_bytes": a.size_bytes, **a.metrics}
            for a in bundle.artifacts
        ],
    }


def _table(bundle: Bundle) -> str:
    rows = [
        [a.name, a.precision, f"{a.size_bytes / 1e6:.1f}", f"{a.threshold:.3f}",
         f"{a.metrics['golden_logit_error']:.1e}"]
        for a in bundle.artifacts
    ]  # fmt: skip
    lines = [f"\n{fitted(_COLUMNS, rows)}"]
    lines += [f"wrote {bundle.path}", bundle.intended_use]
    # At the end, where nobody overlooks them.
    promises = {a.name: a.metrics["promise"] for a in bundle.artifacts if "promise" in a.metrics}
    lines += [f"{name}: {found['text']}" for name, found in promises.items() if not found["kept"]]
    return "\n".join(lines)
