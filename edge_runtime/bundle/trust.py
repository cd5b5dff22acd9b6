"""Which bundles this device accepts: its policy, and who must have signed them (`edge_runtime.bundle.signature`).

A policy is a JSON file, named by ``--policy`` or by the environment variable ``SONOEDGE_POLICY``. Everything that
opens a bundle to answer (`edge_runtime.Classifier`, a cascade) enforces the policy:

    {
      "policy_version": 1,
      "allowed_signers": {"clinic": "<64 hexadecimal digits>"},
      "minimum_schema_version": 1,
      "minimum_created": "2026-11-01T00:00:00Z",
      "remember_newest": "/var/lib/sonoedge/newest.json",
      "required_metrics": {"training.test.auc.0": {"min": 0.9}, "artifact.golden_logit_error": {"max": 0.2}}
    }
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.bundle.contract import MANIFEST, READ_VERSIONS, Artifact, Bundle, CascadeSpec
from sonoedge.edge_runtime.bundle.freshness import check_not_older, is_time, remember
from sonoedge.edge_runtime.bundle.manifest import load_bundle, read_manifest
from sonoedge.edge_runtime.bundle.signature import read_signature, verify_signature
from sonoedge.edge_runtime.errors import TrustError, UsageError

POLICY_VARIABLE = "SONOEDGE_POLICY"
POLICY_VERSION = 1
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Policy:
    """What a device accepts.

    Attributes:
        allowed_signers: name of the signer -> raw Ed25519 public key, 64 lower-case hexadecimal digits. If empty,
            bundles need no signature.
        minimum_schema_version: of bundle.json.
        required_metrics: dotted path -> ``{"min": …}``, ``{"max": …}`` or both. Paths start with ``training``
            (metrics of the full model, for the whole bundle) or ``artifact`` (the artifact's own metrics). A number
            picks from a list: ``training.test.auc.1`` is the lower end of the interval.
        minimum_created: bundles made before this time are refused; empty for no limit.
        remember_newest: file that records the newest bundle used; older ones are refused
            (`edge_runtime.bundle.freshness`). None for no record.
    """

    allowed_signers: Mapping[str, str] = field(default_factory=dict)
    minimum_schema_version: int = READ_VERSIONS[0]
    required_metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    minimum_created: str = ""
    remember_newest: Path | None = None


def load_trusted(path: str | Path, policy: Policy | None = None) -> Bundle:
    """Load a bundle that this device's policy accepts; every command that runs a model calls this.

    Args:
        path: bundle folder.
        policy: None takes the file that ``SONOEDGE_POLICY`` names; without that, every sound bundle is accepted.

    Returns:
        The bundle, with only the artifacts that have the required metrics.

    Raises:
        BundleError: see `edge_runtime.bundle.manifest.load_bundle`.
        TrustError: the bundle is not signed by an allowed signer, its schema is too old, no artifact has the
            required metrics, or the bundle is older than one that this device has used.
        UsageError: see `read_policy`.
        MissingExtraError: the policy names signers, and the ``cryptography`` package is not installed.
    """
    return trusted(load_bundle(path), policy)


def trusted(bundle: Bundle, policy: Policy | None = None) -> Bundle:
    """`load_trusted` for a bundle that is loaded already; a bundle accepted before is returned unchanged."""
    if bundle.policy_checked:
        return bundle
    policy = device_policy() if policy is None else policy
    if policy is None:
        read_signature(bundle.path)  # damage is found with or without a key
        return without_policy(bundle)
    accepted = enforce(policy, bundle)
    if policy.remember_newest is not None:
        remember(accepted, policy.remember_newest)
    return accepted


def without_policy(bundle: Bundle) -> Bundle:
    """The bundle, marked as checked: tools that make or check bundles do not answer, so they need no policy."""
    return replace(bundle, policy_checked=True)


def enforce(policy: Policy, bundle: Bundle) -> Bundle:
    """`trusted` with a given policy, but the bundle is not recorded as the newest one.

    A cascade is left out unless both of its models have the required metrics.

    Raises:
        BundleError, TrustError, MissingExtraError: see `load_trusted`.
    """
    if policy.allowed_signers:
        verify_signature(bundle.path, policy.allowed_signers)
    if policy.minimum_schema_version > bundle.schema_version:
        raise TrustError(
            f"The policy asks for bundle schema {policy.minimum_schema_version} or newer; this bundle has "
            f"{bundle.schema_version}."
        )
    check_not_older(bundle, policy.minimum_created, policy.remember_newest)
    reasons = {artifact.name: _unmet(policy, bundle, artifact) for artifact in bundle.artifacts}
    accepted = tuple(artifact for artifact in bundle.artifacts if not reasons[artifact.name])
    if not accepted:
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise TrustError(f"No artifact of {bundle.path} has the metrics that the policy requires. {listed}.")
    cascade = bundle.cascade
    if cascade is not None and (
        reasons.get(cascade.full_artifact, "none") or _first_unmet(policy, bundle, cascade)
    ):
        cascade = None
    return replace(bundle, artifacts=accepted, cascade=cascade, policy_checked=True)


def device_policy() -> Policy | None:
    """The policy that ``SONOEDGE_POLICY`` names; None if the variable is not set."""
    path = os.environ.get(POLICY_VARIABLE, "")
    return read_policy(path) if path else None


def read_policy(path: str | Path) -> Policy:
    """Read a policy file.

    Raises:
        UsageError: the file is missing or not JSON, or has an unknown key or a wrong type. A policy is never half
            understood.
    """
    path = Path(path)
    try:
        body = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"The policy {path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The policy {path} is not JSON: {error}.") from error
    known = {"policy_version", "allowed_signers", "minimum_schema_version", "required_metrics"}
    known |= {"minimum_created", "remember_newest"}
    if not isinstance(body, dict) or set(body) - known or body.get("policy_version") != POLICY_VERSION:
        raise UsageError(
            f"The policy {path} must be a JSON object with policy_version {POLICY_VERSION} and no keys but "
            f"{', '.join(sorted(known))}."
        )
    signers, minimum = body.get("allowed_signers", {}), body.get("minimum_schema_version", READ_VERSIONS[0])
    metrics = body.get("required_metrics", {})
    if not isinstance(signers, dict) or not all(isinstance(k, str) and _KEY.fullmatch(k) for k in signers.values()):
        raise UsageError(f"allowed_signers in {path} must map names to 64 lower-case hexadecimal digits.")
    if "allowed_signers" in body and not signers:
        raise UsageError(f"allowed_signers in {path} is empty: name a signer, or leave the key out.")
    if not isinstance(minimum, int) or isinstance(minimum, bool) or minimum < 1:
        raise UsageError(f"minimum_schema_version in {path} must be a positive integer.")
    if not isinstance(metrics, dict) or not all(_is_limit(limit) for limit in metrics.values()):
        raise UsageError(
            f'required_metrics in {path} must map paths to {{"min": number}} and/or {{"max": number}}.'
        )
    if wrong := sorted(name for name in metrics if name.split(".")[0] not in {"training", "artifact"}):
        raise UsageError(f"required_metrics in {path} must start with 'training.' or 'artifact.': {wrong[0]}.")
    earliest, record = body.get("minimum_created", ""), body.get("remember_newest")
    if "minimum_created" in body and not is_time(earliest):
        raise UsageError(f"minimum_created in {path} must be a time such as 2026-11-30T08:15:00Z.")
    if record is not None and not (isinstance(record, str) and Path(record).is_absolute()):
        raise UsageError(f"remember_newest in {path} must be the whole path of a file that this device writes.")
    if (earliest or record) and not signers:
        raise UsageError(f"{path} compares times but names no allowed_signers: anybody could write a newer time.")
    return Policy(signers, minimum, metrics, earliest, None if record is None else Path(record))


def _is_limit(limit: Any) -> bool:
    return (
        isinstance(limit, dict)
        and bool(limit)
        and set(limit) <= {"min", "max"}
        and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in limit.values())
    )


def _unmet(policy: Policy, bundle: Bundle, artifact: Artifact) -> str:
    """Why an artifact may not be used; empty if it may."""
    training = bundle.provenance.get("training")
    known = {
        "training": training.get("metrics", {}) if isinstance(training, Mapping) else {},
        "artifact": artifact.metrics,
    }
    for path, limit in policy.required_metrics.items():
        value = _look_up(known, path)
        if value is None:
            return f"{path} is not stated"
        # Not `value < min`: a NaN must fail.
        if not limit.get("min", value) <= value <= limit.get("max", value):
            return f"{path} is {value:g}, required {' and '.join(f'{k} {v:g}' for k, v in limit.items())}"
    return ""


def _first_unmet(policy: Policy, bundle: Bundle, spec: CascadeSpec) -> str:
    """Why the cheap model of a cascade may not be used; empty if it may, or if it is missing."""
    folder = bundle.path / spec.first
    if not (folder / MANIFEST).is_file():
        return ""  # `edge_runtime.model.cascade.first_bundle` reports that it is missing
    first = read_manifest(folder)  # the bundle's SHA256SUMS covers it
    return next((_unmet(policy, first, item) for item in first.artifacts if item.name == spec.first_artifact), "")


def _look_up(body: Any, path: str) -> float | None:
    for step in path.split("."):
        if isinstance(body, Mapping) and step in body:
            body = body[step]
        elif isinstance(body, Sequence) and not isinstance(body, str) and step.isdigit() and int(step) < len(body):
            body = body[int(step)]
        else:
            return None
    return float(body) if isinstance(body, (int, float)) and not isinstance(body, bool) else None
