"""``sonoedge doctor``: what is missing or slow on this device, and how long an image takes."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

import numpy as np

from sonoedge.edge_runtime.backends import is_available
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.commands.options import JSON, add_bundle
from sonoedge.edge_runtime.device.doctor import FAILURE, OK, UNKNOWN, WARNING, Check, examine
from sonoedge.edge_runtime.device.latency import measure
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.terminal import hanging
from sonoedge.edge_runtime.words import INTENDED_USE

_SIGN = {OK: "ok", WARNING: "WARN", FAILURE: "FAIL", UNKNOWN: "-"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_bundle(parser, "the one that this device will run", required=False)
    parser.add_argument(
        "--measure", type=int, default=0, metavar="N", help="also time N inferences of each artifact"
    )
    JSON.add(parser, "one object")
    parser.epilog = (
        "examples:\n  sonoedge doctor\n  sonoedge doctor --bundle bundle\n"
        "  sonoedge doctor --bundle bundle --measure 20"
    )


def run(args: argparse.Namespace) -> int:
    """Print what was found. Exit code 1 if something is missing, else 0; a warning is no failure."""
    if args.measure < 0 or (args.measure and args.bundle is None):
        raise UsageError("--measure takes a positive number and needs --bundle.")
    checks, bundle = examine(args.bundle)
    failed = any(check.status == FAILURE for check in checks)
    measured = _measure(bundle, args.measure) if bundle and args.measure else {}
    if args.json:
        body = {"checks": [asdict(c) for c in checks], "measured_ms": measured, "ok": not failed}
        print(json.dumps(body, ensure_ascii=False))
        return int(failed)
    for check in checks:
        print(_line(check))
    if measured:
        print("\nmeasured on this device, one image at a time (resize, backbone, head):")
    for name, figures in measured.items():
        print(
            f"  {name:<16} p50 {figures['p50_ms']:.1f} ms, p90 {figures['p90_ms']:.1f} ms, {figures['runs']} runs"
        )
    if bundle and not measured:
        print("\nhow long an image takes here: sonoedge doctor --bundle BUNDLE --measure 20")
    print(f"\n{'something is missing: see FAIL above' if failed else 'ready'}\n{INTENDED_USE}")
    return int(failed)


def _line(check: Check) -> str:
    text = hanging(f"{_SIGN[check.status]:<5}{check.name:<22}", check.finding)
    return f"{text}\n{hanging(' ' * 27, f'-> {check.advice}')}" if check.advice else text


def _measure(bundle: Bundle, runs: int) -> dict[str, Any]:
    height, width = bundle.input.height, bundle.input.width
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    calls = {}
    for artifact in bundle.artifacts:
        if is_available(artifact.runtime):
            classifier = Classifier(bundle, artifact.name)
            calls[artifact.name] = lambda c=classifier: c.explain_raw(image)
    return {name: asdict(result) for name, result in measure(calls, runs=runs).items()}
