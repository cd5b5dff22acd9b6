"""Ed25519 signatures, and the signature file of a bundle."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from scripts.vectors.generated import VECTORS
from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, SIGNATURE
from sonoedge.edge_runtime.bundle.signature import raw_public_key, verify_signature
from sonoedge.edge_runtime.errors import BundleError, TrustError
from sonoedge.edge_runtime.files import sha256_bytes, write_text_atomic


def ed25519_vectors() -> list[dict[str, Any]]:
    """Keys, messages and signatures: the first three tests of RFC 8032, 7.1, a kilobyte, and what must not pass."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    order = 2**252 + 27742317777372353535851937790883648493
    cases = []
    for secret, message in (
        ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", b""),
        ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", b"\x72"),
        ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", b"\xaf\x82"),
        ("07" * 32, bytes(range(256)) * 4),
    ):
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
        key, signature = bytes.fromhex(raw_public_key(private.public_key())), private.sign(message)
        again = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
        tried = [
            (key, message, signature),
            (key, message + b"\0", signature),
            (key, message, signature[:32] + again),
        ]
        tried += [(key, message, _flipped(signature, bit)) for bit in (0, 255, 256, 511)]
        tried += [(_flipped(key, bit), message, signature) for bit in (0, 255)]
        for key, message, signature in tried:
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
                valid = True
            except (InvalidSignature, ValueError):
                valid = False
            case = {"key": key.hex(), "message": message.hex(), "signature": signature.hex(), "valid": valid}
            cases.append(case)
    return cases


def signature_vectors() -> list[dict[str, Any]]:
    """`signature`: text of SHA256SUMS.sig (null: none), allowed signers -> ``signer``, or ``words``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    clinic, other = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2))
    keys = {"clinic": raw_public_key(clinic.public_key()), "other": raw_public_key(other.public_key())}
    sums = (VECTORS / "bundle" / SHA256SUMS).read_bytes()

    def text(signed: bytes, digest: bytes = sums) -> str:
        body = (
            f"sonoedge-signature 1\nkey {keys['clinic']}\nsums {sha256_bytes(digest)}\nsignature {signed.hex()}\n"
        )
        return f"{body}check {sha256_bytes(body.encode())}\n"

    good = text(clinic.sign(sums))
    only = {"clinic": keys["clinic"]}
    cases: list[dict[str, Any]] = [
        {"file": good, "signers": only, "signer": "clinic"},
        {"file": good, "signers": {"other": keys["other"], "renamed": keys["clinic"]}, "signer": "renamed"},
        {"file": None, "signers": only, "words": ["is not signed", "clinic"]},
        {"file": good, "signers": {"other": keys["other"]}, "words": ["unknown key", keys["clinic"][:16], "other"]},
        {"file": text(other.sign(sums)), "signers": only, "words": ["forged", "clinic"]},
        {"file": text(clinic.sign(sums + b"x")), "signers": only, "words": ["forged", "clinic"]},
        {
            "file": text(clinic.sign(sums + b"x"), sums + b"x"),
            "signers": only,
            "words": ["made for another", SHA256SUMS],
        },
        {"file": good[:-1], "signers": only, "words": ["SHA256SUMS.sig is damaged"]},
        {"file": good.replace("check", "cheek"), "signers": only, "words": ["SHA256SUMS.sig is damaged"]},
        {
            "file": good.replace("signature 1", "signature 2"),
            "signers": only,
            "words": ["SHA256SUMS.sig is damaged"],
        },
        {"file": "", "signers": only, "words": ["SHA256SUMS.sig is damaged"]},
    ]
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            bundle = Path(folder) / "bundle"
            shutil.rmtree(bundle, ignore_errors=True)
            shutil.copytree(VECTORS / "bundle", bundle)
            if case["file"] is not None:
                write_text_atomic(bundle / SIGNATURE, case["file"])
            try:
                assert verify_signature(bundle, case["signers"]) == case["signer"]
            except (BundleError, TrustError) as error:
                assert all(word in str(error) for word in case["words"]), error
    return cases


def _flipped(data: bytes, bit: int) -> bytes:
    return (int.from_bytes(data, "little") ^ (1 << bit)).to_bytes(len(data), "little")
