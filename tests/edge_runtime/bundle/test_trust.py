"""Signatures, policies, the child process: a damaged, swapped or hostile bundle never becomes an answer."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoedge.edge_runtime import files
from sonoedge.edge_runtime.bundle import signature, trust
from sonoedge.edge_runtime.bundle.checksums import SIGNATURE, SUMS
from sonoedge.edge_runtime.bundle.contract import SBOM, Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.device.sandbox import replay_isolated
from sonoedge.edge_runtime.errors import BundleError, MissingExtraError, TrustError, UsageError
from tests.helpers.bundles import build, rewrite, set_in


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return build(tmp_path / "bundle")


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Two signers, ``clinic`` and ``other``, with their files in tmp_path."""
    return {
        name: signature.new_key(tmp_path / f"{name}.key", tmp_path / f"{name}.pub") for name in ("clinic", "other")
    }


@pytest.fixture
def signed(bundle: Bundle, keys: dict[str, str], tmp_path: Path) -> Bundle:
    signature.sign_bundle(bundle.path, tmp_path / "clinic.key")
    return bundle


def policy_file(tmp_path: Path, **body: Any) -> Path:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"policy_version": 1, **body}))
    return path


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
    command += ["-in", signed.path / SUMS, "-sigfile", tmp_path / "raw"]
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
    lines[2] = f"sums {files.sha256_file(signed.path / SUMS)}"
    body = "\n".join(lines[:-1]) + "\n"
    (signed.path / SIGNATURE).write_text(f"{body}check {files.sha256_bytes(body.encode())}\n")
    with pytest.raises(TrustError, match="forged"):
        signature.verify_signature(signed.path, keys)


def test_every_changed_byte_is_detected(signed: Bundle, tmp_path: Path) -> None:
    """Every byte of every file, each with another value; scripts/check_bytes.py tries all 255 of them."""
    random = np.random.default_rng(0)
    changes = 0
    for path in sorted(p for p in signed.path.rglob("*") if p.is_file()):
        whole = bytearray(path.read_bytes())
        for index in range(len(whole)):
            damaged = bytearray(whole)
            damaged[index] ^= int(random.integers(1, 256))
            path.write_bytes(damaged)
            with pytest.raises(BundleError):
                trust.load_trusted(signed.path)
            changes += 1
        path.write_bytes(whole)
    assert changes > 2_000
    assert trust.load_trusted(signed.path) == signed


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


def test_policy_signers(
    signed: Bundle, keys: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(trust.POLICY_VARIABLE, str(policy_file(tmp_path, allowed_signers={"c": keys["clinic"]})))
    assert trust.load_trusted(signed.path) == signed
    signature.sign_bundle(signed.path, tmp_path / "other.key")
    with pytest.raises(TrustError):
        trust.load_trusted(signed.path)


def test_the_classifier_obeys_the_policy(
    bundle: Bundle, keys: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sonoedge: Callable
) -> None:
    monkeypatch.setenv(trust.POLICY_VARIABLE, str(policy_file(tmp_path, allowed_signers={"c": keys["clinic"]})))
    for arguments in (["predict", "--bundle", bundle.path, "x.png"], ["verify", bundle.path]):
        result = sonoedge(*arguments)
        assert (result.code, "not signed" in result.err) == (TrustError.exit_code, True)
    monkeypatch.setenv(trust.POLICY_VARIABLE, str(tmp_path / "missing.json"))
    assert sonoedge("predict", "--bundle", bundle.path, "x.png").code == UsageError.exit_code


def test_policy_metrics_choose_artifacts(bundle: Bundle) -> None:
    def enforce(**limits: dict[str, float]) -> list[str]:
        policy = trust.Policy(required_metrics={key.replace("_", "."): limit for key, limit in limits.items()})
        return [a.name for a in trust.enforce(policy, bundle).artifacts]

    both = [a.name for a in bundle.artifacts]
    assert enforce(artifact_auc={"min": 0.93, "max": 0.93}) == both
    assert enforce(artifact_interval_0={"min": 0.9}) == both
    rewrite(bundle.path, set_in("artifacts", 0, "metrics", "auc", to=0.5))
    bundle = load_bundle(bundle.path)
    assert enforce(artifact_auc={"min": 0.9}) == both[1:]
    for key in ("artifact_nothing", "artifact_interval", "artifact_interval_9", "training_test_auc_0"):
        with pytest.raises(TrustError, match="is not stated"):
            enforce(**{key: {"min": 0.0}})
    rewrite(bundle.path, set_in("provenance", to={"training": {"metrics": {"test": {"auc": [0.8, 0.7, 0.9]}}}}))
    bundle = load_bundle(bundle.path)
    assert enforce(training_test_auc_1={"min": 0.7}) == both
    with pytest.raises(TrustError, match=r"training\.test\.auc\.1 is 0\.7, required min 0\.75"):
        enforce(training_test_auc_1={"min": 0.75})


def test_policy_schema(bundle: Bundle) -> None:
    with pytest.raises(TrustError, match="schema 2"):
        trust.enforce(trust.Policy(minimum_schema_version=2), bundle)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"policy_version": 2},
        {"allowed_signer": {}},
        {"allowed_signers": {}},
        {"allowed_signers": {"a": "AB" * 32}},
        {"allowed_signers": ["ab" * 32]},
        {"minimum_schema_version": True},
        {"minimum_schema_version": 0},
        {"required_metrics": {"artifact.auc": {}}},
        {"required_metrics": {"artifact.auc": {"least": 1}}},
        {"required_metrics": {"artifact.auc": {"min": "1"}}},
        {"required_metrics": {"auc": {"min": 1}}},
    ],
)
def test_a_policy_is_never_half_understood(body: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(body if isinstance(body, list) else {"policy_version": 1, **body}))
    with pytest.raises(UsageError):
        trust.read_policy(path)


def test_a_policy_that_is_no_json(tmp_path: Path) -> None:
    for data in (b"", b"\xff", b"[" * 100_000):
        (tmp_path / "policy.json").write_bytes(data)
        with pytest.raises(UsageError, match="not JSON"):
            trust.read_policy(tmp_path / "policy.json")


def test_sign_and_verify_commands(run_bundle: Path, tmp_path: Path, sonoedge: Callable) -> None:
    shutil.copytree(run_bundle, tmp_path / "bundle")
    made = sonoedge("sign", "--new-key", tmp_path / "clinic", "--json")
    assert made.code == 0
    key = json.loads(made.out)["key"]
    assert sonoedge("sign", tmp_path / "bundle", "--key", tmp_path / "clinic.key").code == 0
    result = sonoedge("verify", tmp_path / "bundle", "--key", tmp_path / "clinic.pub", "--json")
    assert result.code == 0
    body = json.loads(result.out)
    assert body["signature"] == "good, by clinic"
    assert len(body["artifacts"]) == 2 and all(a["passed"] for a in body["artifacts"])
    policy = policy_file(tmp_path, allowed_signers={"clinic": key})
    assert "the policy is met" in sonoedge("verify", tmp_path / "bundle", "--policy", policy, "--in-process").out
    assert "not checked" in sonoedge("verify", tmp_path / "bundle").out
    refused = sonoedge("verify", run_bundle, "--key", tmp_path / "clinic.pub")
    assert (refused.code, refused.out) == (TrustError.exit_code, "")
    assert sonoedge("sign").code == sonoedge("sign", tmp_path / "bundle").code == UsageError.exit_code


def test_a_crashing_model_file_becomes_a_sentence(
    run_bundle: Path, tmp_path: Path, sonoedge: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child dies by a signal; the caller lives and says so."""
    bundle = load_bundle(run_bundle)
    fake = tmp_path / "lib"
    (fake / "ai_edge_litert").mkdir(parents=True)
    (fake / "ai_edge_litert" / "__init__.py").write_text("")
    for name, expected in (("SIGSEGV", "crashed on this file"), ("SIGILL", "this processor lacks")):
        code = f"import os, signal\nos.kill(os.getpid(), signal.{name})\n"
        (fake / "ai_edge_litert" / "interpreter.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(fake))
        result = sonoedge("verify", bundle.path, "--artifact", "tflite-fp32")
        assert result.code == 5
        assert "FAILED: the interpreter" in result.out and expected in result.out and name in result.out


def test_limits_of_the_child(run_bundle: Path) -> None:
    bundle = load_bundle(run_bundle)
    assert "within 0.01 s" in replay_isolated(bundle, "tflite-fp32", seconds=0.01).failure
    starved = replay_isolated(bundle, "tflite-fp32", memory_bytes=64 << 20)
    assert starved.failure and not starved.passed
    assert replay_isolated(bundle, "tflite-fp32").passed


def test_the_child_runs_our_code_only(run_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of our package's name where the command is called is not imported."""
    (tmp_path / "edge_runtime").mkdir()
    (tmp_path / "edge_runtime" / "__init__.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    assert replay_isolated(load_bundle(run_bundle), "tflite-fp32").passed


def test_sbom_of_an_export(run_bundle: Path) -> None:
    body = json.loads((run_bundle / SBOM).read_text(encoding="utf-8"))
    assert (body["bomFormat"], body["specVersion"]) == ("CycloneDX", "1.6")
    packages = {c["name"]: c["version"] for c in body["components"] if c["type"] == "library"}
    versions = load_bundle(run_bundle).provenance["versions"]
    assert {name: packages[name] for name in ("keras", "tensorflow")} == {
        name: versions[name] for name in ("keras", "tensorflow")
    }
    references = {c["bom-ref"] for c in body["components"]}
    assert set(body["dependencies"][0]["dependsOn"]) == references
    artifacts = {c["name"] for c in body["metadata"]["component"]["components"]}
    assert artifacts == {a.name for a in load_bundle(run_bundle).artifacts}
    assert SBOM in (run_bundle / SUMS).read_text()
