"""``sonoedge sign``: make a key pair, sign a bundle (Ed25519; `edge_runtime.bundle.signature`)."""

from __future__ import annotations

import argparse
import getpass
import json
import os
from pathlib import Path

from sonoedge.edge_runtime.bundle.signature import new_key, sign_bundle
from sonoedge.edge_runtime.commands.options import JSON
from sonoedge.edge_runtime.errors import UsageError

PASSWORD_VARIABLE = "SONOEDGE_KEY_PASSWORD"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="bundle folder to sign")
    parser.add_argument("--key", type=Path, metavar="FILE", help="private key (PEM, Ed25519)")
    parser.add_argument("--new-key", metavar="NAME", help="make NAME.key (keep it secret) and NAME.pub")
    parser.add_argument(
        "--password", action="store_true", help=f"ask for the key's password (or ${PASSWORD_VARIABLE})"
    )
    JSON.add(parser, "one object")
    parser.epilog = (
        "examples:\n"
        "  sonoedge sign --new-key clinic --password\n"
        "  sonoedge sign bundle --key clinic.key --password\n"
        "  sonoedge verify bundle --key clinic.pub"
    )


def run(args: argparse.Namespace) -> int:
    """Write a key pair or sign a bundle. Exit code 0."""
    if bool(args.new_key) == bool(args.bundle) or bool(args.bundle) != bool(args.key):
        raise UsageError("Give either --new-key NAME, or BUNDLE and --key FILE.")
    if args.new_key:
        base = Path(args.new_key)
        private, public = base.with_name(base.name + ".key"), base.with_name(base.name + ".pub")
        key = new_key(private, public, key_password(args.password, twice=True))
        if args.json:
            print(json.dumps({"private_key": str(private), "public_key": str(public), "key": key}))
        else:
            print(f"wrote {private} (secret: never on a device) and {public}")
            print(f'for a policy: "allowed_signers": {{"{base.name}": "{key}"}}')
        return 0
    signature = sign_bundle(args.bundle, args.key, key_password(args.password, twice=False))
    if args.json:
        print(json.dumps({"bundle": str(args.bundle), "key": signature.key, "signature": signature.signature}))
    else:
        print(f"signed {args.bundle} with the key {signature.key[:16]}…")
    return 0


def key_password(wanted: bool, *, twice: bool = False) -> bytes | None:
    """The password of a private key, from the environment or asked for; None if it has none."""
    given = os.environ.get(PASSWORD_VARIABLE, "")
    if given:
        return given.encode()
    if not wanted:
        return None
    first = getpass.getpass("password of the key: ")
    if not first or (twice and getpass.getpass("again: ") != first):
        raise UsageError("The password is empty, or the two do not agree.")
    return first.encode()
