"""``sonoedge install``: put a bundle in use on this device in one step, and go back to the one before."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.bundle.freshness import created
from sonoedge.edge_runtime.bundle.manifest import load_bundle, read_manifest
from sonoedge.edge_runtime.bundle.signature import read_public_keys, read_signature, verify_signature
from sonoedge.edge_runtime.bundle.trust import device_policy, enforce, read_policy, without_policy
from sonoedge.edge_runtime.commands.options import JSON, TIMEOUT, add_threads
from sonoedge.edge_runtime.device.health import check_limits, replay_bundle, require_passed
from sonoedge.edge_runtime.device.installation import CURRENT, KEEP, Installation, Version
from sonoedge.edge_runtime.device.sandbox import DEFAULT_SECONDS
from sonoedge.edge_runtime.errors import BundleError, DataError, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="bundle folder to install")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help=(
        "folder of the installed bundles; the one in use is DIR/current"
    ))  # fmt: skip
    parser.add_argument("--rollback", action="store_true", help="go back to the bundle that was in use before")
    parser.add_argument("--status", action="store_true", help="print what is installed, and change nothing")
    parser.add_argument("--keep", type=int, default=KEEP, metavar="N", help=(
        "installed bundles to keep, the current one included (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--key", action="append", type=Path, default=[], metavar="FILE", help=(
        "public key that must have signed the bundle (may be repeated: any of them)"
    ))  # fmt: skip
    parser.add_argument("--policy", type=Path, metavar="FILE", help="policy to enforce (default: $SONOEDGE_POLICY)")
    add_threads(parser, "of the health check")
    TIMEOUT.add(parser, "in the health check", default=DEFAULT_SECONDS, shown="%(default)g")
    JSON.add(parser, "one object")
    parser.epilog = (
        "Digests, schema, signature and policy are checked first. Then the bundle is copied, and the copy must\n"
        "reproduce its golden images on this machine (as in `sonoedge verify`) before it becomes DIR/current. If\n"
        "anything fails, or the power goes, DIR/current is as before. A running `sonoedge serve` keeps the bundle\n"
        "that it started with; restart it to take the new one.\n\n"
        "A rollback is checked in the same way. If the policy has remember_newest, you can go back until the new\n"
        "bundle has answered; after that the policy refuses the older one, unless you remove the bundle's line\n"
        "from the record file.\n\n"
        "examples:\n"
        "  sonoedge install bundle --to /opt/sonoedge/bundles --policy /etc/sonoedge/policy.json\n"
        "  sonoedge serve --bundle /opt/sonoedge/bundles/current\n"
        "  sonoedge install --to /opt/sonoedge/bundles --rollback\n"
        "  sonoedge install --to /opt/sonoedge/bundles --status"
    )


def run(args: argparse.Namespace) -> int:
    """Install, go back or list. Exit code 0; whatever fails leaves the current bundle in place.

    Raises:
        BundleError: the bundle is not sound.
        VerificationError: an artifact does not reproduce its results on this machine.
        TrustError: no key of ``--key`` made the signature, or the policy is not met.
        MissingExtraError: no artifact can run here.
        DataError: nothing is installed, or there is no space.
        UsageError: wrong arguments, or another install works in the folder.
    """
    if (args.bundle is not None) + args.rollback + args.status != 1:
        raise UsageError("Name a bundle to install, or give --rollback or --status: one of the three.")
    if args.keep < KEEP:
        raise UsageError(f"--keep must be at least {KEEP}, for a way back. Received: {args.keep}.")
    check_limits(args.timeout, args.threads)
    # Not only the copy: a bundle that is refused must not fill the disk.
    source = _accepted(args)(load_bundle(args.bundle)) if args.bundle is not None else None
    installation = Installation(args.to)
    if source is None and installation.current() is None:
        raise DataError(f"{args.to} holds no installed bundle.")
    if args.status:
        return _status(installation, args)
    with installation.locked():
        before = installation.current()
        if source is not None:
            now = installation.add(source, _healthy(args), args.keep)
            words = "installed already, and healthy" if now == before else "installed"
        else:
            now, words = _go_back(installation, _healthy(args)), "in use again"
    if args.json:
        print(json.dumps(_facts(now, current=True)))
        return 0
    print(f"{words}: {_line(now)}")
    if before not in (None, now):
        print(f"before: {_line(before)}")
    print(f"in use: {installation.link}")
    return 0


def _accepted(args: argparse.Namespace) -> Callable[[Bundle], Bundle]:
    """What applies ``--key`` and the policy to a bundle; the record of the newest bundle used stays as it is."""
    policy = read_policy(args.policy) if args.policy else device_policy()
    keys = read_public_keys(args.key) if args.key else None

    def accept(bundle: Bundle) -> Bundle:
        if keys:
            verify_signature(bundle.path, keys)
        else:
            read_signature(bundle.path)  # damage is found with or without a key
        return without_policy(bundle) if policy is None else enforce(policy, bundle)

    return accept


def _healthy(args: argparse.Namespace) -> Callable[[Bundle], None]:
    """The check that a bundle must pass before it becomes current."""
    accept = _accepted(args)

    def check(bundle: Bundle) -> None:
        require_passed(replay_bundle(accept(bundle), threads=args.threads, seconds=args.timeout))

    return check


def _go_back(installation: Installation, check: Callable[[Bundle], None]) -> Version:
    back = installation.back()
    if len(back) < 2:
        raise DataError(f"{installation.root} holds no earlier bundle to go back to.")
    check(load_bundle(back[1].path))
    installation.switch(back[1])
    return back[1]


def _status(installation: Installation, args: argparse.Namespace) -> int:
    back = installation.back()
    if args.json:
        versions = [_facts(one, current=one == back[0]) for one in back]
        print(json.dumps({"in_use": str(installation.link), "versions": versions}))
        return 0
    for number, one in enumerate(back):
        print(f"{CURRENT if number == 0 else 'before':<9}{_line(one)}")
    print(f"in use: {installation.link}")
    return 0


def _facts(version: Version, *, current: bool) -> dict[str, Any]:
    facts = {"version": version.number, "path": str(version.path), "current": current}
    try:
        bundle = read_manifest(version.path)
        return facts | {
            "name": bundle.name, "created": created(bundle) or None, "digest": bundle_digest(version.path),
            "artifacts": [artifact.name for artifact in bundle.artifacts], "damage": None,
        }  # fmt: skip
    except (BundleError, OSError) as error:
        return facts | {"name": None, "created": None, "digest": None, "artifacts": [], "damage": str(error)}


def _line(version: Version) -> str:
    facts = _facts(version, current=False)
    if facts["damage"]:
        return f"version {version.number}, damaged: {facts['damage']}"
    made = f", made {facts['created']}" if facts["created"] else ""
    artifacts = ", ".join(facts["artifacts"])
    return f"version {version.number}, {facts['name']}{made}, digest {facts['digest'][:12]} ({artifacts})"
