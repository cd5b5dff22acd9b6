"""``sonoedge verify``: digests, schema, and a replay of the golden vectors with every artifact."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from edge_runtime.bundle import load_bundle
from edge_runtime.errors import MissingExtraError, VerificationError
from edge_runtime.verify import Replay, load_golden, replay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle folder")
    parser.add_argument("--artifact", help="check this artifact only (default: all)")
    parser.add_argument("--threads", type=int, help="interpreter threads (default: cores, at most 4)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = "examples:\n  sonoedge verify bundle\n  sonoedge verify bundle --artifact tflite-int8 --json"


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when every artifact that can run here reproduces its results, 5 when one does not."""
    bundle = load_bundle(args.bundle)
    golden = load_golden(bundle)
    names = [bundle.artifact(args.artifact).name] if args.artifact else [a.name for a in bundle.artifacts]
    results = [replay(bundle, name, golden, threads=args.threads) for name in names]
    if args.json:
        print(json.dumps([{**asdict(r), "passed": r.passed} for r in results]))
    else:
        print(f"{bundle.path}: digests and schema are good; {len(golden['reference_logit'])} golden images")
        print(f"{'artifact':<16} {'replay |d|':>11} {'(limit)':>10} {'Keras |d|':>10} {'(limit)':>10} {'map':>9}")
        for result in results:
            print(_row(result))
    if all(result.skipped for result in results):
        raise MissingExtraError("An interpreter for this bundle", "litert")
    if failed := [r.artifact for r in results if not r.passed and not r.skipped]:
        raise VerificationError(f"{', '.join(failed)} does not reproduce its golden results on this machine.")
    return 0


def _row(result: Replay) -> str:
    if result.skipped:
        return f"{result.artifact:<16} skipped: {result.skipped}"
    limits = result.tolerance
    return (
        f"{result.artifact:<16} {result.replay_error:>11.2e} {limits[0]:>10.1e} {result.reference_error:>10.2e} "
        f"{limits[1]:>10.1e} {result.cam_error:>9.1e}  {'ok' if result.passed else 'FAILED'}"
    )
