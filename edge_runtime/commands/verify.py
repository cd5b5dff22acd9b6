"""``sonoedge verify``: signature, digests, schema, and a replay of the golden vectors with every artifact."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.bundle.signature import read_public_keys, read_signature, verify_signature
from sonoedge.edge_runtime.bundle.site import in_use
from sonoedge.edge_runtime.bundle.trust import device_policy, enforce, read_policy, without_policy
from sonoedge.edge_runtime.commands.options import (
    AGREEMENT_DATA,
    ARTIFACT,
    JSON,
    MAX_FLIPS,
    TIMEOUT,
    add_bundle_argument,
    add_threads,
)
from sonoedge.edge_runtime.device.agreement import FLOAT, Agreement, find_frames, measure_agreement
from sonoedge.edge_runtime.device.health import replay_bundle, require_passed
from sonoedge.edge_runtime.device.replay import Replay, load_golden
from sonoedge.edge_runtime.device.sandbox import DEFAULT_SECONDS
from sonoedge.edge_runtime.errors import UsageError, VerificationError
from sonoedge.edge_runtime.terminal import Column, fitted
from sonoedge.edge_runtime.typed_json import to_plain

_COLUMNS = (
    Column("artifact", 16, left=True), Column("replay |d|", 12), Column("(limit)", 11), Column("Keras |d|", 11),
    Column("(limit)", 11), Column("map", 10), Column("decisions", 11), Column("", left=True),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_bundle_argument(parser)
    ARTIFACT.add(parser, "the only one to check", shown="all")
    parser.add_argument(
        "--key",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="public key that must have signed the bundle (may be repeated: any of them)",
    )
    parser.add_argument("--policy", type=Path, metavar="FILE", help="policy to enforce (default: $SONOEDGE_POLICY)")
    AGREEMENT_DATA.add(parser, "with those of the bundle's float32 file, or with its stored answers")
    MAX_FLIPS.add(parser, "on these frames", default=0.01)
    add_threads(parser)
    TIMEOUT.add(parser, default=DEFAULT_SECONDS, shown="%(default)g")
    parser.add_argument(
        "--in-process", action="store_true", help="no child process: a crashing model file ends this command"
    )
    JSON.add(parser, "one object")
    parser.epilog = (
        "examples:\n"
        "  sonoedge verify bundle\n"
        "  sonoedge verify bundle --artifact tflite-int8 --json\n"
        "  sonoedge verify bundle --key clinic.pub\n"
        "  sonoedge verify bundle --agreement-data frames/"
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Check a bundle. Exit code 0 if every artifact that can run here reproduces its results.

    Raises:
        BundleError: the bundle is not sound.
        VerificationError: an artifact does not reproduce its results, or decides too often unlike float32.
        TrustError: no key of ``--key`` made the signature, or the policy is not met.
        MissingExtraError: no artifact can run here.
    """
    bundle = load_bundle(args.bundle)
    signer = _signer(bundle, args.key)
    policy = read_policy(args.policy) if args.policy else device_policy()
    known = [artifact.name for artifact in bundle.artifacts] + (["cascade"] if bundle.cascade else [])
    # A bundle that is only checked is not in use: the policy's record of the newest bundle stays as it is.
    bundle = without_policy(bundle) if policy is None else enforce(policy, bundle)
    kept = [artifact.name for artifact in bundle.artifacts] + (["cascade"] if bundle.cascade else [])
    left_out = [name for name in known if name not in kept]
    site = in_use(bundle, policy).site
    golden = load_golden(bundle)
    results = replay_bundle(
        bundle, args.artifact, threads=args.threads, seconds=args.timeout, isolated=not args.in_process
    )
    agreed = _agreement(bundle, args, {r.artifact for r in results if r.skipped or r.failure})
    if args.json:
        body = {
            "bundle": str(bundle.path),
            "signature": signer,
            "left_out": left_out,
            **({} if site is None else {"site": to_plain(site)}),
            "artifacts": [_object(r) for r in results],
        }
        if args.agreement_data:
            body["agreement"] = [a.to_json(args.max_flips) for a in agreed]
        print(json.dumps(body, allow_nan=False))
    else:
        print(f"{bundle.path}: digests and schema are good; {len(golden['reference_logit'])} golden images")
        print(f"signature: {signer}" + ("; the policy is met" if policy is not None else ""))
        if site is not None:
            print(f"site overlay: {site.site}, {site.created}, {site.patients} patients; it is for this bundle")
        if left_out:
            print(f"left out by the policy: {', '.join(left_out)}")
        print(fitted(_COLUMNS, [_row(result) for result in results]))
        for found in agreed:
            unknown = f"; {found.left_out} frames without an answer left out" if found.left_out else ""
            print(
                f"{found.artifact}, decisions that differ from {found.reference}: "
                f"{found.count.words(args.max_flips)}{unknown}"
            )
    require_passed(results)
    if failed := [a.artifact for a in agreed if a.count.verdict(args.max_flips) == "FAIL"]:
        raise VerificationError(f"{', '.join(failed)} decides too often unlike float32 on {args.agreement_data}.")
    return 0


def _agreement(bundle: Bundle, args: argparse.Namespace, broken: set[str]) -> list[Agreement]:
    """The agreement of every artifact that is asked for, runs here and is not float32; empty without frames."""
    if args.agreement_data is None:
        return []
    if not 0 <= args.max_flips <= 1:
        raise UsageError(f"--max-flips is a share from 0 to 1. Received: {args.max_flips}.")
    asked = [a for a in bundle.artifacts if args.artifact in (None, a.name)]
    chosen = [a for a in asked if a.precision != FLOAT and a.name not in broken]
    if not chosen:
        raise UsageError("--agreement-data compares files with float32: no other artifact runs here.")
    frames = find_frames(args.agreement_data)
    return [measure_agreement(bundle, artifact, frames, threads=args.threads) for artifact in chosen]


def _signer(bundle: Bundle, keys: list[Path]) -> str:
    """The signature in words; if keys are given, `TrustError` unless one of them made it."""
    if keys:
        return f"good, by {verify_signature(bundle.path, read_public_keys(keys))}"
    signature = read_signature(bundle.path)
    return "none" if signature is None else f"key {signature.key[:16]}…, not checked (give --key)"


def _object(result: Replay) -> dict[str, Any]:
    body = asdict(result)
    # An artifact that did not run has NaN, which JSON does not know.
    for name in ("replay_error", "reference_error", "cam_error"):
        body[name] = body[name] if np.isfinite(body[name]) else None
    body["tolerance"] = [limit if np.isfinite(limit) else None for limit in body["tolerance"]]
    return {**body, "passed": result.passed}


def _row(result: Replay) -> list[str]:
    if result.skipped:
        return [result.artifact, f"skipped: {result.skipped}"]
    if result.failure:
        return [result.artifact, f"FAILED: {result.failure}"]
    limits = [f"{limit:.1e}" for limit in result.tolerance]
    return [
        result.artifact, f"{result.replay_error:.2e}", limits[0], f"{result.reference_error:.2e}", limits[1],
        f"{result.cam_error:.1e}", f"{result.decisions - result.changed} of {result.decisions}",
        "ok" if result.passed else "FAILED",
    ]  # fmt: skip
