"""The overlay of a site: thresholds that a hospital chose with its own labelled images.

Thresholds do not travel from scanner to scanner. ``sonoedge calibrate-site`` writes the overlay beside the bundle,
as ``<bundle>.site.json``; the bundle itself stays as it was signed. Whoever opens the bundle to answer takes its
thresholds from there (`in_use`); what checks or measures the bundle does not. It is one JSON object:

    kind, schema_version      sonoedge-site, 1
    created, site             UTC; the name of the site, for people
    bundle, bundle_digest     name, and SHA-256 of SHA256SUMS: an overlay is valid for exactly one bundle
    sensitivity               what was aimed at, 0–1
    images, patients, positive_patients
    points                    artifact, threshold (a probability, 0–1); sensitivity and specificity on these images,
                              each value, low and high end of a 95 % interval by patient

``<bundle>.site.json.sig`` is its signature, in the format of a bundle's. A policy that names signers asks for it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.bundle.contract import Bundle, Site
from sonoedge.edge_runtime.bundle.signature import check_signed, read_signed
from sonoedge.edge_runtime.bundle.trust import Policy, device_policy
from sonoedge.edge_runtime.errors import BundleError, DataError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.typed_json import read_record, read_typed_json, to_plain

KIND = "sonoedge-site"
SCHEMA_VERSION = 1
AGAIN = "Make it again: sonoedge calibrate-site."


def site_file(bundle: Path) -> Path:
    """Where the overlay of a bundle lies: beside its folder."""
    return bundle.with_name(f"{bundle.name}.site.json")


def site_signature(bundle: Path) -> Path:
    """Where the overlay's signature lies."""
    path = site_file(bundle)
    return path.with_name(f"{path.name}.sig")


def write_site(site: Site, bundle: Path) -> None:
    """Write an overlay atomically; a signature of an earlier one is removed first."""
    site_signature(bundle).unlink(missing_ok=True)
    body = {"kind": KIND, "schema_version": SCHEMA_VERSION, **to_plain(site)}
    write_text_atomic(site_file(bundle), json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_site(bundle: Bundle) -> Site | None:
    """The overlay beside a bundle; None if there is none.

    Raises:
        BundleError: it is damaged, is for another bundle, or holds what the bundle does not allow.
    """
    path = site_file(bundle.path)
    if not path.exists():
        return None
    try:
        body = read_typed_json(path, "site overlay", (KIND,), SCHEMA_VERSION, AGAIN)
        fields = {key: value for key, value in body.items() if key not in {"kind", "schema_version"}}
        site = read_record(Site, fields, str(path))
    except DataError as error:
        raise BundleError(str(error)) from error
    digest = bundle_digest(bundle.path)
    if site.bundle_digest != digest:
        raise BundleError(
            f"{path} is for another bundle than {bundle.path}: for {site.bundle}, digest "
            f"{site.bundle_digest[:12]}, not {digest[:12]}. {AGAIN}"
        )
    if "threshold" not in bundle.site_overlay:
        raise BundleError(f"{bundle.path} allows no thresholds of a site. Remove {path}.")
    names = [point.artifact for point in site.points]
    known = {artifact.name for artifact in bundle.artifacts}
    if not names or len(set(names)) < len(names) or not set(names) <= known:
        raise BundleError(f"{path} must name artifacts of the bundle, each once. Received: {', '.join(names)}.")
    for point in site.points:
        if not 0 < point.threshold < 1:
            raise BundleError(f"{path}: thresholds lie between 0 and 1. Received: {point.threshold}.")
    read_signed(site_signature(bundle.path), path)
    return site


def in_use(bundle: Bundle, policy: Policy | None = None) -> Bundle:
    """The bundle with the thresholds of its site, if there is an overlay; a second call changes nothing.

    Artifacts that the overlay does not name are left out: nobody has chosen a threshold for them here.

    Args:
        bundle: as `edge_runtime.bundle.trust.trusted` gives it.
        policy: None takes that of the device.

    Raises:
        BundleError: see `read_site`.
        TrustError: the policy names signers, and none of them signed the overlay.
    """
    if bundle.site is not None:
        return bundle
    site = read_site(bundle)
    if site is None:
        return bundle
    policy = device_policy() if policy is None else policy
    if policy is not None and policy.allowed_signers:
        check_signed(site_signature(bundle.path), site_file(bundle.path), policy.allowed_signers)
    thresholds = {point.artifact: point.threshold for point in site.points}
    artifacts = tuple(
        replace(artifact, threshold=thresholds[artifact.name])
        for artifact in bundle.artifacts
        if artifact.name in thresholds
    )
    if not artifacts:
        raise BundleError(f"{site_file(bundle.path)} names no artifact that this device may use.")
    cascade = bundle.cascade if bundle.cascade and bundle.cascade.full_artifact in thresholds else None
    return replace(bundle, artifacts=artifacts, cascade=cascade, site=site)
