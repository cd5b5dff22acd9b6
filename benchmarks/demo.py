"""``sonoedge demo``: the whole path on generated phantoms, in one folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

from edge_runtime.bundle import INTENDED_USE
from edge_runtime.errors import UsageError

DEMO_FORMATS = "tflite-int8,tflite-fp16,tflite-fp32,openvino-fp32"
_BACKBONES = ("vgg19", "efficientnetb0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything (default: ./demo)")
    parser.add_argument("--weights", metavar="imagenet|none|DIR", help=(
        "default: imagenet where the files are at hand or can be downloaded, else none"
    ))  # fmt: skip
    parser.add_argument("--cases", type=int, default=60, help="phantom cases per class (default: %(default)s)")
    parser.add_argument("--format", default=DEMO_FORMATS, metavar="A,B|all", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.epilog = (
        "Takes a few minutes on two cores. Interrupted, it goes on where it was.\n\n"
        "examples:\n"
        "  sonoedge demo\n"
        "  sonoedge demo --out /data/demo --weights weights/ --format all"
    )


def run(args: argparse.Namespace) -> int:
    """Phantoms -> train -> export -> verify -> predict -> benchmark."""
    from train.quiet import quiet

    if args.cases < 10:
        raise UsageError(f"--cases must be at least 10, for a split with both classes in each part: {args.cases}.")
    started = perf_counter()
    out: Path = args.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} exists and is not a folder.")
    bars = [] if not args.quiet else ["--quiet"]
    with quiet():
        from train.backbones import imagenet_at_hand, imagenet_reachable
    weights = args.weights
    if weights is None:
        weights = "imagenet" if imagenet_at_hand(_BACKBONES) or imagenet_reachable() else "none"
    print(f"backbone weights: {weights}")
    if weights == "none":
        print(
            "  No ImageNet files in Keras' cache, and no network: the backbones are untrained. Everything below\n"
            "  works the same, but accuracy is that of a classifier on random features; latency and size are real."
        )
    data, model, bundle, report = (out / name for name in ("phantoms", "run", "bundle", "report"))
    steps: list[tuple[str, list[str]]] = [
        ("phantoms", ["--out", str(data), "--cases", str(args.cases), "--seed", str(args.seed)]),
        ("train", ["--data", str(data), "--weights", weights, "--out", str(model), "--overwrite", "--seed",
                   str(args.seed), "--cache", str(out / "cache"), *bars]),
        # A few phantoms decide little: the demonstration goes on with the nearest candidate, and says so.
        ("export", ["--model", str(model), "--format", args.format, "--allow-drop", "--out", str(bundle), *bars]),
        ("verify", [str(bundle)]),
        ("benchmark", ["--bundle", str(bundle), "--model", str(model), "--data", str(data), "--out", str(report),
                       "--mode", "rapid", "--no-peers", *bars]),
        ("predict", ["--bundle", str(bundle), "--explain", str(out / "explained"),
                     str(data / "malignant" / "malignant_0001_a.png"),
                     str(data / "benign" / "benign_0001_a.png")]),
    ]  # fmt: skip
    for number, (name, arguments) in enumerate(steps, start=1):
        print(f"\n== {number}/{len(steps)} sonoedge {name} {' '.join(arguments)}", flush=True)
        _call(name, arguments)
    print(
        f"\nDone in {perf_counter() - started:.0f} s: {bundle} goes to the device, {report} holds the figures, "
        f"{out / 'explained'} the heat maps.\nThe images are simulated. {INTENDED_USE}"
    )
    return 0


def _call(name: str, arguments: list[str]) -> None:
    """Run a subcommand in this process, so that its errors are ours."""
    from importlib import import_module

    from edge_runtime.cli import COMMANDS

    parser = argparse.ArgumentParser(prog=f"sonoedge {name}")
    command = import_module(COMMANDS[name][0])
    command.add_arguments(parser)
    command.run(parser.parse_args(arguments))
