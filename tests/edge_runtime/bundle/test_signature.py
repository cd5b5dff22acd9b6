"""Keys and signatures: damage, forgery and unknown signers are told apart."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from sonoedge.edge_runtime import files
from sonoedge.edge_runtime.bundle import signature
from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, SIGNATURE
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import BundleError, MissingExtraError, TrustError, UsageError
from tests.helpers.bundles import rewrite, set_in


def test_a_signed_bundle_names_its_signer(signed: Bundle, keys: dict[str, str]) -> None:
    assert signature.verify_signature(signed.path, keys) == "clinic"
    assert load_bundle(signed.path) == signed  # the signature is no foreign file


def test_keys_are_private_and_never_overwritten(keys: dict[str, str], tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "clinic.key").stat().st_mode) == 0o600
    before = (tmp_path / "clinic.key").read_bytes()
    with pytest.raises(UsageError, match="not overwritten"):
        signature.new_key(tmp_path / "clinic.key", tmp_path / "new.pub")
    assert (tmp_path / "clinic.key").read_bytes() == before
    assert signature.read_public_keys([tmp_path / "clinic.pub"]) == {"clinic": keys["clinic"]}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl tool")
def test_openssl_agrees(signed: Bundle, tmp_path: Path) -> None:
    found = signature.read_signature(signed.path)
    assert found is not None
    (tmp_path / "raw").write_bytes(bytes.fromhex(found.signature))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "clinic.pub", "-rawin"]
    command += ["-in", signed.path / SHA256SUMS, "-sigfile", tmp_path / "raw"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_unsigned_and_unknown_signers_are_refused(bundle: Bundle, keys: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="not signed"):
        signature.verify_signature(bundle.path, keys)
    signature.sign_bundle(bundle.path, tmp_path / "other.key")
    with pytest.raises(TrustError, match="unknown key"):
        signature.verify_signature(bundle.path, {"clinic": keys["clinic"]})


def test_a_forged_signature_is_refused(signed: Bundle, keys: dict[str, str]) -> None:
    """Files changed, digests and the signature file's own sums made to fit: only the key is missing."""
    rewrite(signed.path, set_in("artifacts", 0, "threshold", to=0.01))
    with pytest.raises(BundleError, match="changed since it was signed"):
        signature.read_signature(signed.path)
    lines = (signed.path / SIGNATURE).read_text().splitlines()
    lines[2] = f"sums {files.sha256_file(signed.path / SHA256SUMS)}"
    body = "\n".join(lines[:-1]) + "\n"
    (signed.path / SIGNATURE).write_text(f"{body}check {files.sha256_bytes(body.encode())}\n")
    with pytest.raises(TrustError, match="forged"):
        signature.verify_signature(signed.path, keys)


@pytest.mark.parametrize("length", [0, 10, -1])
def test_a_truncated_signature_is_damaged(length: int, signed: Bundle) -> None:
    path = signed.path / SIGNATURE
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BundleError, match="damaged"):
        signature.read_signature(signed.path)


def test_an_unsound_bundle_is_not_signed(bundle: Bundle, keys: dict[str, str], tmp_path: Path) -> None:
    (bundle.path / "extra").write_text("x")
    with pytest.raises(BundleError, match="extra"):
        signature.sign_bundle(bundle.path, tmp_path / "clinic.key")
    assert not (bundle.path / SIGNATURE).exists()


def test_wrong_keys(bundle: Bundle, keys: dict[str, str], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    curve = ec.generate_private_key(ec.SECP256R1())
    pem = curve.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    (tmp_path / "ec.key").write_bytes(pem)
    (tmp_path / "ec.pub").write_bytes(
        curve.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    )
    for name, message in (("ec.key", "another kind"), ("clinic.pub", "cannot be used"), ("none", "cannot be used")):
        with pytest.raises(UsageError, match=message):
            signature.sign_bundle(bundle.path, tmp_path / name)
    for name, message in (("ec.pub", "another kind"), ("clinic.key", "not a public key"), ("none", "not a public")):
        with pytest.raises(UsageError, match=message):
            signature.read_public_keys([tmp_path / name])


def test_a_password_protects_the_key(bundle: Bundle, tmp_path: Path) -> None:
    signature.new_key(tmp_path / "a.key", tmp_path / "a.pub", b"secret")
    for password in (None, b"wrong"):
        with pytest.raises(UsageError, match="cannot be used"):
            signature.sign_bundle(bundle.path, tmp_path / "a.key", password)
    signature.sign_bundle(bundle.path, tmp_path / "a.key", b"secret")


def test_without_cryptography_the_extra_is_named(
    signed: Bundle, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(MissingExtraError, match=r"\.\[trust\]"):
        signature.verify_signature(signed.path, keys)
    assert signature.read_signature(signed.path) is not None  # damage is found all the same
