"""``sonoedge demo``: from simulated images to an explained answer, in one folder and in two to three minutes."""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

from sonoedge.edge_runtime.commands.options import OUT, QUIET
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.commands.options import CASES, FORMAT, SEED, WEIGHTS

DEMO_FORMATS = "tflite-int8,tflite-fp32"
CALIBRATION_IMAGES = 16
_BACKBONES = ("vgg19", "efficientnetb0")
_STEPS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    OUT.add(parser, "everything", default=Path("demo"), shown="./demo")
    WEIGHTS.add(parser, shown="imagenet if the files are at hand or can be downloaded, else none")
    CASES.add(parser, "two images each", default=10)
    FORMAT.add(parser, "as for export", default=DEMO_FORMATS)
    SEED.add(parser, default=0)
    QUIET.add(parser)
    parser.epilog = (
        "Simulated images -> train -> export with the accuracy guard -> verify -> predict and explain. The\n"
        "benchmark is left out; the last lines say how to run it. To be quick, the demo trains without augmented\n"
        f"copies and calibrates on at most {CALIBRATION_IMAGES} images. Interrupted, it goes on where it was.\n\n"
        "examples:\n"
        "  sonoedge demo\n"
        "  sonoedge demo --out /data/demo --weights weights/ --cases 60 --format all"
    )


def run(args: argparse.Namespace) -> int:
    """Phantoms -> train -> export -> verify -> predict; returns the first exit code that is not 0."""
    from sonoedge.train.quiet import quiet

    if args.cases < 10:
        raise UsageError(f"--cases must be at least 10, for a split with both classes in each part: {args.cases}.")
    started = perf_counter()
    out: Path = args.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} exists and is not a folder.")
    bars = ["--quiet"] if not args.progress else []
    with quiet():
        from sonoedge.train.models.backbones import imagenet_at_hand
        from sonoedge.train.models.keras_files import imagenet_reachable
    weights = args.weights
    if weights is None:
        weights = "imagenet" if imagenet_at_hand(_BACKBONES) or imagenet_reachable() else "none"
    print(f"backbone weights: {weights}")
    if weights == "none":
        print(
            "  No ImageNet files in Keras' cache, and no network: the backbones are untrained. Everything below\n"
            "  works the same, but accuracy is that of a classifier on random features; latency and size are real."
        )
    data, model, bundle, explained = (out / name for name in ("phantoms", "run", "bundle", "explained"))
    seed = ["--seed", str(args.seed)]
    steps: list[tuple[str, list[str]]] = [
        ("phantoms", ["--out", str(data), "--cases", str(args.cases), *seed, *bars]),
        ("train", ["--data", str(data), "--weights", weights, "--augment", "0", "--out", str(model), "--overwrite",
                   *seed, "--feature-cache", str(out / "cache"), *bars]),
        # A few phantoms decide little: --allow-drop lets the demo go on with the nearest candidate, and says so.
        ("export", ["--model", str(model), "--format", args.format, "--allow-drop", "--num-calibration-samples",
                    str(CALIBRATION_IMAGES), "--out", str(bundle), "--quantized-cache",
                    str(out / "quantized"), "--feature-cache", str(out / "cache"), *bars]),
        ("verify", [str(bundle)]),
    ]  # fmt: skip
    for number, (name, arguments) in enumerate(steps, start=1):
        if code := _call(number, name, arguments):
            return code
    images = _test_images(model, data)
    if code := _call(_STEPS, "predict", ["--bundle", str(bundle), "--explain", str(explained), *map(str, images)]):
        return code
    print(
        f"\nDone in {perf_counter() - started:.0f} s. {bundle} goes to the device.\n"
        f"The images are simulated. {INTENDED_USE}\n"
        "Next, latency, memory and accuracy of every file, as a report (some minutes):\n"
        f"  sonoedge benchmark --bundle {bundle} --model {model} --data {data} --out {out / 'report'}\n"
        f"Heat map of a test image: {explained / images[-1].stem}.overlay.png"
    )
    return 0


def _test_images(model: Path, data: Path) -> list[Path]:
    """The first test image of each class, sorted by label: images that the model has not seen."""
    from sonoedge.train.evaluation.run_folder import open_run

    first = {entry.label: entry.relative_path for entry in reversed(open_run(model).split.entries)
             if entry.subset == "test"}  # fmt: skip
    return [data / first[label] for label in sorted(first)]


def _call(number: int, name: str, arguments: list[str]) -> int:
    """Run a subcommand in this process, so that its errors end this command, too; returns its exit code."""
    from sonoedge.edge_runtime.cli import open_command

    print(f"\n== {number}/{_STEPS} sonoedge {name} {' '.join(arguments)}", flush=True)
    started = perf_counter()
    command, parser = open_command(name)
    code: int = command.run(parser.parse_args(arguments))
    print(f"   ({perf_counter() - started:.0f} s)", flush=True)
    return code
