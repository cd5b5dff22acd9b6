"""Policies: an untrusted or damaged bundle never becomes an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoedge.edge_runtime.bundle import signature, trust
from sonoedge.edge_runtime.bundle.contract import READ_VERSIONS, Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import BundleError, TrustError, UsageError
from tests.helpers.bundles import policy_file, rewrite, set_in
from tests.helpers.places import VECTORS


@pytest.mark.long
@pytest.mark.slow  # test_any_changed_byte_is_found tries a sample of them
def test_every_changed_byte_is_detected(signed: Bundle, tmp_path: Path) -> None:
    """Every byte of every file, each with another value; scripts/checks/bytes.py tries all 255 of them."""
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
    with pytest.raises(TrustError, match=r"training\.test\.auc\.3 is not stated"):
        enforce(training_test_auc_3={"min": 0.0})  # one past the end of the list


def test_policy_schema(bundle: Bundle) -> None:
    with pytest.raises(TrustError, match="schema 3 or newer; this bundle has 2"):
        trust.enforce(trust.Policy(minimum_schema_version=3), bundle)
    assert trust.enforce(trust.Policy(minimum_schema_version=2), bundle)
    old = load_bundle(VECTORS / "schema-1" / "cascade")
    with pytest.raises(TrustError, match="schema 2 or newer; this bundle has 1"):
        trust.enforce(trust.Policy(minimum_schema_version=2), old)
    assert trust.enforce(trust.Policy(), old)


def test_a_policy_that_names_no_schema_takes_every_one_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text('{"policy_version": 1}')
    policy = trust.read_policy(tmp_path / "policy.json")
    assert policy.minimum_schema_version == min(READ_VERSIONS)


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
