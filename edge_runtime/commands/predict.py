"""``sonoedge predict``: classify files and folders, one line or JSON object an image."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sonoedge.edge_runtime.api import load
from sonoedge.edge_runtime.commands.options import FRAME, JSON, QUIET, UNGATED, add_bundle, add_choice_of_model
from sonoedge.edge_runtime.device.monitor import Monitor
from sonoedge.edge_runtime.errors import REFUSED_EXIT_CODE, DataError, ImageError, UsageError
from sonoedge.edge_runtime.explain.files import remove_explanation, write_explanation
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.edge_runtime.model.result import Result
from sonoedge.edge_runtime.terminal import Progress
from sonoedge.edge_runtime.words import INTENDED_USE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files or folders")
    add_bundle(parser)
    add_choice_of_model(parser)
    JSON.add(parser, "one object a line")
    parser.add_argument("--explain", metavar="DIR", help="write overlay PNG, panel PNG, NPZ and JSON per image")
    parser.add_argument("--explain-class", metavar="LABEL", help="class to explain (default: the predicted one)")
    FRAME.add(parser)
    UNGATED.add(parser)
    parser.add_argument("--counters", type=Path, metavar="FILE", help="write counts and drift (.prom or JSON)")
    QUIET.add(parser)
    parser.epilog = (
        "examples:\n"
        "  sonoedge predict --bundle bundle frame.png\n"
        "  sonoedge predict --bundle bundle --json images/ > results.jsonl\n"
        "  sonoedge predict --bundle bundle --artifact openvino-int8 --explain heat/ frame.png"
    )


def run(args: argparse.Namespace) -> int:
    """Answer the images. Exit code 3 if an image could not be read, else 11 if one was refused, else 0.

    An unreadable or refused image does not stop the others.
    """
    model = load(args.bundle, args.artifact, threads=args.threads, profile=args.profile)
    if args.explain_class and args.explain_class not in model.bundle.labels:
        raise UsageError(f"Unknown class {args.explain_class!r}. The bundle has: {', '.join(model.bundle.labels)}.")
    if not args.ungated:
        _ = model.gated  # raises if only one model of a cascade has a gate
    paths = image_paths(args.images)
    stems = output_stems(paths)
    if not args.json:
        print(INTENDED_USE, file=sys.stderr)
    failed, refused, monitor = 0, 0, Monitor()
    with Progress(len(paths), "images", wanted=args.progress) as progress:
        for path, stem in zip(paths, stems, strict=True):
            try:
                result = model(path, frame=args.frame, ungated=args.ungated)
            except ImageError as error:
                progress.say(f"error: {error}", sys.stderr)
                failed += 1
                monitor.unreadable(type(error).__name__)
                progress.step()
                continue
            refused += result.withheld
            if args.explain and result.withheld:
                remove_explanation(Path(args.explain) / stem)
            elif args.explain:
                why = result.explain(args.explain_class)
                write_explanation(Path(args.explain) / stem, result.picture, why, result.to_json())
            monitor.answered(result)
            if args.counters:
                monitor.watch(model.deciding_model(result), result)
            progress.say(json.dumps(result.to_json(), ensure_ascii=False) if args.json else line(result))
            progress.step()
    if args.counters:
        json_text = json.dumps(monitor.to_json(), ensure_ascii=False) + "\n"
        write_text_atomic(args.counters, monitor.prometheus() if args.counters.suffix == ".prom" else json_text)
    if failed:
        print(f"error: {failed} of {len(paths)} images could not be read.", file=sys.stderr)
    refusal_note(refused, len(paths))
    return exit_code(unreadable=failed, refused=refused)


def refusal_note(refused: int, count: int) -> None:
    """Say on standard error how many of ``count`` images were refused."""
    if refused:
        print(f"note: {refused} of {count} images were refused and have no result (--ungated).", file=sys.stderr)


def exit_code(*, unreadable: int, refused: int) -> int:
    """The exit code of a command that answered images one by one; unreadable images outrank refused ones."""
    return DataError.exit_code if unreadable else REFUSED_EXIT_CODE if refused else 0


def output_stems(paths: Sequence[Path]) -> list[Path]:
    """Output names without suffix, all different.

    A unique stem of an image is used as it is. Images of equal stems keep their folders as sub-folders; if their
    names are still equal, the names keep the image's suffix.
    """
    stems = [Path(path.stem) for path in paths]
    counts = Counter(stems)
    # The folder is resolved, because '..' must not become a part of an output name; the file name stays as given,
    # even if it is a link.
    anchored = [path.parent.resolve() / path.name for path in paths]
    shared = [path for path, stem in zip(anchored, stems, strict=True) if counts[stem] > 1]
    parts = [path.parent.parts for path in shared]
    depth = next(
        (i for i, level in enumerate(zip(*parts, strict=False)) if len(set(level)) > 1),
        min(map(len, parts), default=0),
    )
    names = [
        Path(*path.parent.parts[depth:]) / path.stem if counts[stem] > 1 else stem
        for path, stem in zip(anchored, stems, strict=True)
    ]
    while True:
        again = Counter(names)
        # Until nothing changes: a name with suffix can equal the stem of another image (x.png and x.png.png).
        longer = [
            name.with_name(path.name) if again[name] > 1 else name for path, name in zip(paths, names, strict=True)
        ]
        if longer == names:
            return names
        names = longer


def image_paths(arguments: Sequence[str]) -> list[Path]:
    """The image files that the arguments name, each once; a folder stands for all images in it.

    Raises:
        DataError: a folder holds no images.
    """
    paths: list[Path] = []
    for argument in arguments:
        found = find_images(argument)
        if not found:
            raise DataError(f"No images in {argument}.")
        paths += found
    return list(dict.fromkeys(paths))


def line(result: Result) -> str:
    """One result as a line for the terminal, with the reasons if the verdict has any."""
    total = sum(result.latency_ms.values())
    tail = f"{total:7.1f} ms  {result.artifact}  {result.image}" + (
        f" frame {result.frame}" if result.frame else ""
    )
    why = f"  [{result.text}]" if result.reasons else ""
    if result.probability is None:
        return f"{result.verdict:<10} {tail}{why}"
    of_site = f" of {result.bundle.site.site}" if result.bundle.site else ""
    return f"{result.label:<10} p={result.probability:.4f} (threshold {result.threshold:.4f}{of_site})  {tail}{why}"
