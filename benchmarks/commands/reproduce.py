"""``sonoedge reproduce``: the paper's systems, tables and figures from one command."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from sonoedge.edge_runtime.commands.options import CLASSES, DATA, JSON, OUT, QUIET, SKIP_UNREADABLE
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.commands.options import (
    INPUT_SIZE,
    PIXEL_RANGE,
    SEED,
    SEED_RANGE,
    WEIGHTS,
    add_feature_cache,
    check_ranges,
)

RESULT = "reproduction.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    from sonoedge.train.experiments.systems import SYSTEMS

    DATA.add(parser, "as for train", required=True)
    CLASSES.add(parser)
    SKIP_UNREADABLE.add(parser)
    WEIGHTS.add(parser, (
        "one whose weights cannot be had runs untrained, and its systems enter no comparison"
    ), default="imagenet")  # fmt: skip
    parser.add_argument("--systems", metavar="A,B", help=f"default: all of {', '.join(SYSTEMS)}")
    parser.add_argument("--untrained-images", type=int, default=200, metavar="N", help=(
        "images for systems with untrained backbones, 0 for all (default: %(default)s)"
    ))  # fmt: skip
    INPUT_SIZE.add(parser, default=224)
    SEED.add(parser, "for splits, heads and untrained weights", default=0)
    OUT.add(parser, "the page, and the results", required=True)
    add_feature_cache(parser, old="--cache")
    QUIET.add(parser)
    JSON.add(parser, RESULT)
    parser.epilog = (
        "Interrupted, it goes on where it was: finished systems are kept in DIR, features in the cache.\n\n"
        "examples:\n"
        "  sonoedge reproduce --data BUSI --out reproduction\n"
        "  sonoedge reproduce --data BUSI --weights weights/ --systems vgg19+efficientnetb0,vgg19 --out again"
    )


def run(args: argparse.Namespace) -> int:
    """Run the missing systems and write the page. Exit code 0."""
    from sonoedge.train.experiments.systems import parse_systems

    systems = parse_systems(args.systems)
    check_ranges(
        ("--untrained-images", args.untrained_images, 0, 10**9),
        ("--input-size", args.input_size, *PIXEL_RANGE),
        ("--seed", args.seed, *SEED_RANGE),
    )
    out: Path = args.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} exists and is not a folder.")
    from sonoedge.train.quiet import quiet, silent

    with quiet():
        from sonoedge.benchmarks.experiments.reproduction_facts import compare
        from sonoedge.benchmarks.experiments.reproduction_page import markdown, page
        from sonoedge.train.evaluation.intervals import without_nan
        from sonoedge.train.evaluation.run_folder import versions
        from sonoedge.train.experiments.reproduction import ReproduceSettings, reproduce
        from sonoedge.train.features.cache import default_cache

    settings = ReproduceSettings(
        data=args.data,
        systems=systems,
        weights=args.weights,
        classes=tuple(args.classes.split(",")) if args.classes else None,
        skip_unreadable=args.skip_unreadable,
        untrained_images=args.untrained_images,
        input_size=args.input_size,
        seed=args.seed,
    )
    say = silent if args.json else print
    dataset, units = reproduce(settings, out, cache=args.cache or default_cache(), progress=args.progress, say=say)
    comparisons = compare(units)
    found = versions("sonoedge", "keras", "tensorflow", "numpy")
    provenance = (
        f"Data digest {dataset.digest[:16]}, weights {Path(args.weights).name}, seed {args.seed}; "
        + ", ".join(f"{name} {version}" for name, version in found.items())
        + "."
    )
    result = without_nan(
        {
            "settings": {**asdict(settings), "data": Path(args.data).name, "weights": Path(args.weights).name},
            "dataset": {"digest": dataset.digest, "images": len(dataset), "notes": dataset.notes},
            "units": [{**asdict(unit), "trained": unit.trained} for unit in units],
            "comparisons": [{**asdict(found), "verdict": found.verdict} for found in comparisons],
            "versions": found,
            "intended_use": INTENDED_USE,
        }
    )
    write_text_atomic(out / RESULT, json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_text_atomic(out / "reproduction.md", markdown(dataset, units, comparisons, provenance))
    write_text_atomic(out / "reproduction.html", page(dataset, units, comparisons, provenance))
    if args.json:
        print(json.dumps(result))
    else:
        for pair in comparisons:
            value = pair.difference
            print(
                f"AUC minus that of {pair.system} ({pair.protocol}): {value.value:+.3f} "
                f"[{value.low:+.3f}, {value.high:+.3f}]: {pair.verdict}"
            )
        print(f"wrote {out / 'reproduction.html'}\n{INTENDED_USE}")
    return 0
