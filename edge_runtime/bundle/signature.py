"""Who vouches for a bundle: keys and signatures.

A signature is Ed25519 (RFC 8032) over the bytes of SHA256SUMS. SHA256SUMS holds the digest of every other file, so
one signature covers the bundle, and any Ed25519 tool can check it. ``SHA256SUMS.sig`` holds the signature:

    sonoedge-signature 1
    key <64 hexadecimal digits: the public key>
    sums <64: SHA-256 of SHA256SUMS>
    signature <128>
    check <64: SHA-256 of the lines above>

The two SHA-256 lines do not prove who signed. With them a device without the ``cryptography`` package can tell a
damaged signature file from a whole one. The key inside the file proves nothing either: only a key that the device's
owner names (``--key``, or a policy) identifies a signer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, SIGNATURE
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import BundleError, MissingExtraError, TrustError, UsageError
from sonoedge.edge_runtime.files import sha256_bytes, sha256_file, write_text_atomic

_SIGNATURE_FILE = re.compile(
    r"(sonoedge-signature 1\nkey ([0-9a-f]{64})\nsums ([0-9a-f]{64})\nsignature ([0-9a-f]{128})\n)"
    r"check ([0-9a-f]{64})\n"
)


@dataclass(frozen=True)
class Signature:
    """The content of SHA256SUMS.sig, as hexadecimal digits: raw public key (32 bytes) and signature (64 bytes)."""

    key: str
    signature: str


def read_signature(folder: Path) -> Signature | None:
    """The content of a bundle's signature file, not verified; None if the bundle is not signed.

    Raises:
        BundleError: the file is damaged, or belongs to another SHA256SUMS.
    """
    return read_signed(folder / SIGNATURE, folder / SHA256SUMS)


def read_signed(path: Path, signed: Path) -> Signature | None:
    """The content of a signature file, not verified; None if there is none.

    Raises:
        BundleError: the file is damaged, or belongs to another content of the file ``signed``.
    """
    if not path.exists():
        return None
    match = _SIGNATURE_FILE.fullmatch(path.read_bytes().decode("latin-1"))
    if match is None or sha256_bytes(match[1].encode()) != match[5]:
        raise BundleError(f"{path.name} is damaged.")
    if sha256_file(signed) != match[3]:
        what = "the bundle" if signed.name == SHA256SUMS else "it"
        raise BundleError(
            f"{path.name} was made for another {signed.name}: {what} has changed since it was signed."
        )
    return Signature(match[2], match[4])


def verify_signature(folder: Path, signers: Mapping[str, str]) -> str:
    """Verify a bundle's signature and return the name of the signer.

    Args:
        folder: of the bundle.
        signers: allowed signers, name -> public key as 64 hexadecimal digits.

    Raises:
        BundleError: see `read_signature`.
        TrustError: the bundle is not signed, is signed by somebody else, or the signature is forged.
        MissingExtraError: the ``cryptography`` package is not installed.
    """
    return check_signed(folder / SIGNATURE, folder / SHA256SUMS, signers, name=str(folder))


def check_signed(path: Path, signed: Path, signers: Mapping[str, str], *, name: str = "") -> str:
    """Verify the signature of a file and return the name of the signer.

    Args:
        path: the signature.
        signed: the file.
        signers: see `verify_signature`.
        name: of what is signed, for errors; empty for the file.

    Raises:
        BundleError, TrustError, MissingExtraError: see `verify_signature`.
    """
    name = name or str(signed)
    found = read_signed(path, signed)
    if found is None:
        raise TrustError(f"{name} is not signed. Allowed signers: {', '.join(signers)}.")
    signer = next((signer for signer, key in signers.items() if key == found.key), None)
    if signer is None:
        raise TrustError(
            f"{name} is signed by the unknown key {found.key[:16]}…. Allowed signers: {', '.join(signers)}."
        )
    ed25519 = _ed25519()
    from cryptography.exceptions import InvalidSignature

    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(found.key))
        key.verify(bytes.fromhex(found.signature), signed.read_bytes())
    except (InvalidSignature, ValueError) as error:
        raise TrustError(f"The signature of {name} is forged: it was not made with the key of {signer}.") from error
    return signer


def sign_bundle(folder: Path, key_file: Path, password: bytes | None = None) -> Signature:
    """Check a bundle and sign it with a private key (PEM, PKCS #8); an older signature is replaced.

    Raises:
        BundleError: the bundle is not sound; only sound bundles are signed.
        UsageError: the key cannot be read, or is not Ed25519.
        MissingExtraError: the ``cryptography`` package is not installed.
    """
    load_bundle(folder)
    return sign_file(folder / SHA256SUMS, folder / SIGNATURE, key_file, password)


def sign_file(signed: Path, path: Path, key_file: Path, password: bytes | None = None) -> Signature:
    """Sign a file with a private key, into the file ``path``; errors are those of `sign_bundle`."""
    private = _private_key(key_file, password)
    data = signed.read_bytes()
    signature = Signature(raw_public_key(private.public_key()), private.sign(data).hex())
    body = (
        f"sonoedge-signature 1\nkey {signature.key}\nsums {sha256_bytes(data)}\nsignature {signature.signature}\n"
    )
    write_text_atomic(path, f"{body}check {sha256_bytes(body.encode())}\n")
    return signature


def new_key(private_file: Path, public_file: Path, password: bytes | None = None) -> str:
    """Write a key pair as PEM files; only the owner can read the private one.

    Returns:
        The raw public key, 64 hexadecimal digits.

    Raises:
        UsageError: one of the files exists already; a key is never overwritten.
        MissingExtraError: the ``cryptography`` package is not installed.
    """
    ed25519 = _ed25519()
    from cryptography.hazmat.primitives import serialization as s

    if taken := [path for path in (private_file, public_file) if path.exists()]:
        raise UsageError(f"{taken[0]} is there already. Choose another name: keys are not overwritten.")
    private = ed25519.Ed25519PrivateKey.generate()
    protection = s.BestAvailableEncryption(password) if password else s.NoEncryption()
    private_file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(private_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(private.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, protection))
    public = private.public_key()
    write_text_atomic(
        public_file, public.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo).decode()
    )
    return raw_public_key(public)


def read_public_keys(paths: Sequence[Path]) -> dict[str, str]:
    """Read public keys: name of the file without suffix -> raw key as 64 hexadecimal digits.

    Raises:
        UsageError: a file is not an Ed25519 public key in PEM.
        MissingExtraError: the ``cryptography`` package is not installed.
    """
    ed25519 = _ed25519()
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    keys = {}
    for path in paths:
        try:
            public = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"{path} is not a public key in PEM: {error}") from error
        if not isinstance(public, ed25519.Ed25519PublicKey):
            raise UsageError(f"{path} holds another kind of key than Ed25519.")
        keys[path.stem] = raw_public_key(public)
    return keys


def raw_public_key(public: Any) -> str:
    """The 64 hexadecimal digits of a raw public key, as in a policy."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return str(public.public_bytes(Encoding.Raw, PublicFormat.Raw).hex())


def _private_key(path: Path, password: bytes | None) -> Any:
    ed25519 = _ed25519()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(path.read_bytes(), password)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} cannot be used as a private key: {error}") from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{path} holds another kind of key than Ed25519.")
    return private


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtraError("cryptography", "trust") from error
    return ed25519
