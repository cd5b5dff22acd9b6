"""``sonoedge explain``: the heat map behind each answer, as pictures and as numbers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.api import load
from sonoedge.edge_runtime.commands.options import (
    BUDGET,
    FRAME,
    JSON,
    OUT,
    QUIET,
    UNGATED,
    add_bundle,
    add_choice_of_model,
)
from sonoedge.edge_runtime.commands.predict import (
    exit_code,
    image_paths,
    line,
    output_stems,
    refusal_note,
)
from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.explain.files import remove_explanation, write_explanation
from sonoedge.edge_runtime.explain.gradcam import FUSED
from sonoedge.edge_runtime.explain.methods.budget import Budget, check_seconds
from sonoedge.edge_runtime.explain.methods.table import GRADCAM, METHODS, method_of
from sonoedge.edge_runtime.imaging.masks import find_mask, read_mask
from sonoedge.edge_runtime.model.cascade import Cascade
from sonoedge.edge_runtime.model.explaining import explain_result
from sonoedge.edge_runtime.model.predictor import Predictor
from sonoedge.edge_runtime.model.result import Result
from sonoedge.edge_runtime.terminal import Progress
from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.edge_runtime.words import INTENDED_USE

PREDICTED = "predicted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files or folders")
    add_bundle(parser)
    add_choice_of_model(parser)
    OUT.add(parser, default=Path("explained"), shown="./explained")
    parser.add_argument("--method", default=GRADCAM, metavar="NAME", help=(
        f"{', '.join(METHODS)} (default: {GRADCAM}, which costs nothing; the others run the model up to "
        f"{max(method.calls for method in METHODS.values())} times an image)"
    ))  # fmt: skip
    BUDGET.add(parser, "what was found until then is shown", shown="no limit")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=(
        "random seed: of rise and lime (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--class", dest="label", default=PREDICTED, metavar="LABEL", help=(
        "class to explain: a label of the bundle, or predicted (default)"
    ))  # fmt: skip
    parser.add_argument("--branch", default=FUSED, metavar="NAME", help=(
        "map to draw: a branch of the bundle, or fused, the sum of all (default)"
    ))  # fmt: skip
    parser.add_argument("--mask", type=Path, metavar="PATH", help=(
        "lesion mask to outline: a file for one image, or a folder with masks of the images' names"
    ))  # fmt: skip
    parser.add_argument("--opacity", type=float, default=0.5, metavar="X", help="of the hottest spot, 0 to 1")
    FRAME.add(parser)
    UNGATED.add(parser)
    JSON.add(parser, "one object a line")
    QUIET.add(parser)
    parser.epilog = (
        "Writes <stem>.overlay.png, .panel.png, .npz and .json per image.\n\n"
        "examples:\n"
        "  sonoedge explain --bundle bundle frame.png\n"
        "  sonoedge explain --bundle bundle --class malignant --mask BUSI/masks --out heat BUSI/malignant\n"
        "  sonoedge explain --bundle bundle --artifact openvino-int8 --branch vgg19 frame.png\n"
        "  sonoedge explain --bundle bundle --method occlusion --budget 5 frame.png"
    )


def run(args: argparse.Namespace) -> int:
    """Explain images. Exit code 3 if an image or its mask could not be used, else 11 if one was refused, else 0."""
    if not 0.0 <= args.opacity <= 1.0:
        raise UsageError(f"--opacity is a share from 0 to 1. Received: {args.opacity}.")
    _check_method(args)
    paths = image_paths(args.images)
    if args.mask is not None:
        _check_masks(args.mask, paths)
    model = load(args.bundle, args.artifact, threads=args.threads, profile=args.profile)
    _check_names(model, args)
    if not args.json:
        print(INTENDED_USE, file=sys.stderr)
    if not args.ungated:
        _ = model.gated  # raises if only one model of a cascade has a gate
    label = None if args.label == PREDICTED else args.label
    failed = refused = unmasked = 0
    with Progress(len(paths), "images", wanted=args.progress) as progress:
        for path, stem in zip(paths, output_stems(paths), strict=True):
            try:
                result = model(path, frame=args.frame, ungated=args.ungated)
                mask = _mask(args.mask, path, result.picture)
            except DataError as error:
                progress.say(f"error: {error}", sys.stderr)
                failed += 1
                progress.step()
                continue
            unmasked += args.mask is not None and mask is None
            body = {**result.to_json(), "method": args.method}
            if result.withheld:
                refused += 1
                remove_explanation(args.out / stem)
                text = line(result)
            else:
                why = explain_result(
                    model.deciding_model(result), result, label, scale=model.scale_of(result), method=args.method,
                    budget=Budget(args.budget, watch=progress.inside), seed=args.seed,
                )  # fmt: skip
                body = write_explanation(
                    args.out / stem, result.picture, why, body,
                    branch=args.branch, mask=mask, opacity=args.opacity,
                )  # fmt: skip
                text = _line(result, body)
            progress.say(json.dumps(body, ensure_ascii=False) if args.json else text)
            progress.step()
    if unmasked:
        print(f"note: {unmasked} images have no mask in {args.mask}.", file=sys.stderr)
    if failed:
        print(f"error: {failed} of {len(paths)} images could not be explained.", file=sys.stderr)
    refusal_note(refused, len(paths))
    return exit_code(unreadable=failed, refused=refused)


def _check_names(model: Predictor, args: argparse.Namespace) -> None:
    """Check the names of class and branch before the first image is computed."""
    bundle = model.bundle
    if args.label not in (PREDICTED, *bundle.labels):
        known = ", ".join([PREDICTED, *bundle.labels])
        raise UsageError(f"Unknown class {args.label!r}. Choose from: {known}.")
    if isinstance(model, Cascade) and args.branch != FUSED:
        raise UsageError("Either model of the cascade may decide: name one with --artifact to show a branch of it.")
    branches = [FUSED, *(branch.name for branch in bundle.branches)]
    if args.branch not in branches:
        raise UsageError(f"Unknown branch {args.branch!r}. Choose from: {', '.join(branches)}.")


def _check_method(args: argparse.Namespace) -> None:
    """Check method and budget before the bundle is opened."""
    method_of(args.method).require()
    check_seconds(args.budget)
    if args.method == GRADCAM and args.budget is not None:
        raise UsageError(f"--budget does nothing with {GRADCAM}, whose map comes with the answer: name a --method.")
    if args.method != GRADCAM and args.branch != FUSED:
        raise UsageError(f"Only {GRADCAM} has a map for each branch. Leave out --branch or --method {args.method}.")


def _check_masks(masks: Path, paths: list[Path]) -> None:
    if not masks.exists():
        raise UsageError(f"No such mask file or folder: {masks}")
    if masks.is_file() and len(paths) > 1:
        raise UsageError(f"One mask file for {len(paths)} images. Give a folder of masks with the images' names.")


def _mask(masks: Path | None, path: Path, image: UInt8Image) -> NDArray[np.bool_] | None:
    found = find_mask(masks, path) if masks is not None else None
    return None if found is None else read_mask(found, (image.shape[0], image.shape[1]))


def _line(result: Result, body: dict[str, Any]) -> str:
    peak = body["peak_xy"]
    where = f"peak at x={peak[0]} y={peak[1]}" if peak else "nothing speaks for it"
    cost = body.get("cost")
    asked = (
        f", {body['method']}, {cost['calls'] or cost['head_calls']} calls, {cost['seconds']:.1f} s" if cost else ""
    )
    note = f"\n  {body['note']}" if body.get("note") else ""
    return f"{line(result)}  [{body['explained_label']}: {where}{asked}]{note}"
