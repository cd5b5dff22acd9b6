"""A bundle: digests, paths, the replay, signatures and policies."""

from __future__ import annotations

from scripts.faults.fault import Fault

_INSTALLATION = "tests/edge_runtime/device/test_installation.py::"
_CHECKSUMS = "tests/edge_runtime/bundle/test_checksums.py::"
_MANIFEST = "tests/edge_runtime/bundle/test_manifest.py::"
_SIGNATURE = "tests/edge_runtime/bundle/test_signature.py::"
_TRUST = "tests/edge_runtime/bundle/test_trust.py::"

FAULTS = (
    # --- the overlay of a site
    Fault(
        "site: an overlay of another bundle is refused",
        "edge_runtime/bundle/site.py",
        "if site.bundle_digest != digest:",
        "if not digest:",
        ("tests/export/bundle/test_site.py::test_an_overlay_of_another_bundle_is_refused",),
        heavy=True,
    ),
    Fault(
        "site: a policy with signers asks for a signature",
        "edge_runtime/bundle/site.py",
        "if policy is not None and policy.allowed_signers:",
        "if policy is not None and not policy.allowed_signers:",
        ("tests/export/bundle/test_site.py::test_a_signed_overlay",),
        heavy=True,
    ),
    # --- the bundle
    Fault(
        "digests: a changed byte is found",
        "edge_runtime/bundle/checksums.py",
        "if sha256_file(folder / name) != digest:",
        "if not digest:",
        (_CHECKSUMS + "test_any_changed_byte_is_found",),
    ),
    Fault(
        "digests: a file that is not listed is refused",
        "edge_runtime/bundle/checksums.py",
        "if extra := sorted(present - set(digests)):",
        "if extra := sorted(present - present):",
        (_MANIFEST + "test_extra_file",),
    ),
    Fault(
        "paths: none leads out of the bundle",
        "edge_runtime/bundle/checksums.py",
        'if path.is_absolute() or ".." in path.parts or',
        "if path.is_absolute() or",
        (_MANIFEST + "test_paths_in_the_manifest", _CHECKSUMS + "test_paths_in_the_sums"),
    ),
    Fault(
        "paths: links are refused",
        "edge_runtime/bundle/checksums.py",
        "if path.is_symlink():",
        "if not path.name:",
        (_MANIFEST + "test_links_are_refused_even_with_the_same_content",),
    ),
    Fault(
        "bundle: an unknown schema is refused",
        "edge_runtime/bundle/manifest.py",
        "not isinstance(version, bool) and version not in READ_VERSIONS:",
        "not isinstance(version, bool) and not version:",
        (_MANIFEST + "test_schema_errors",),
    ),
    # --- verify
    Fault(
        "verify: a deviation fails the replay",
        "edge_runtime/device/replay.py",
        "e <= t for e, t in zip(errors, self.tolerance, strict=True)",
        "not e > 99 * t for e, t in zip(errors, self.tolerance, strict=True)",
        ("tests/edge_runtime/device/test_replay.py",),
    ),
    Fault(
        "verify: no number is a deviation",
        "edge_runtime/device/replay.py",
        "e <= t for e, t in zip(errors, self.tolerance, strict=True)",
        "not e > t for e, t in zip(errors, self.tolerance, strict=True)",
        ("tests/edge_runtime/device/test_replay.py",),
    ),
    Fault(
        "verify: the logit is compared with Keras', too",
        "edge_runtime/device/replay.py",
        "errors = (self.replay_error, self.reference_error, self.cam_error)",
        "errors = (self.replay_error, self.replay_error, self.cam_error)",
        ("tests/edge_runtime/device/test_replay.py",),
    ),
    # --- trust
    Fault(
        "trust: a forged signature is refused",
        "edge_runtime/bundle/signature.py",
        "        key.verify(bytes.fromhex(found.signature), signed.read_bytes())\n",
        "",
        (_SIGNATURE + "test_a_forged_signature_is_refused",),
    ),
    Fault(
        "trust: an unknown signer is refused",
        "edge_runtime/bundle/signature.py",
        "if key == found.key), None)",
        "if key), None)",
        (_SIGNATURE + "test_unsigned_and_unknown_signers_are_refused",),
    ),
    Fault(
        "trust: a private key is the owner's alone",
        "edge_runtime/bundle/signature.py",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)",
        (_SIGNATURE + "test_keys_are_private_and_never_overwritten",),
    ),
    Fault(
        "policy: the device's own is enforced",
        "edge_runtime/bundle/trust.py",
        "policy = device_policy() if policy is None else policy",
        "policy = policy or None",
        (_TRUST + "test_policy_signers", _TRUST + "test_the_classifier_obeys_the_policy"),
    ),
    Fault(
        "policy: required metrics are required",
        "edge_runtime/bundle/trust.py",
        'if not limit.get("min", value) <= value <= limit.get("max", value):',
        'if not value <= limit.get("max", value):',
        (_TRUST + "test_policy_metrics_choose_artifacts",),
    ),
    Fault(
        "policy: never half understood",
        "edge_runtime/bundle/trust.py",
        "if not isinstance(body, dict) or set(body) - known or",
        "if not isinstance(body, dict) or",
        (_TRUST + "test_a_policy_is_never_half_understood",),
    ),
    Fault(
        "policy: a device does not go back",
        "edge_runtime/bundle/freshness.py",
        "        if made < mark:\n",
        "        if not mark and made < mark:\n",
        ("tests/edge_runtime/bundle/test_policy.py::test_a_device_does_not_go_back",),
    ),
    Fault(
        "policy: every way of opening a bundle",
        "edge_runtime/model/classifier.py",
        "trusted(bundle) if isinstance(bundle, Bundle) else load_trusted(bundle)",
        "bundle if isinstance(bundle, Bundle) else load_trusted(bundle)",
        ("tests/edge_runtime/bundle/test_policy.py::test_every_way_of_opening_obeys_the_policy",),
    ),
    # --- install
    Fault(
        "install: a bundle that does not work here is not used",
        "edge_runtime/device/installation.py",
        "            check(copied)\n",
        "",
        (_INSTALLATION + "test_a_bundle_that_fails_its_check_does_not_become_current",),
    ),
    Fault(
        "install: the bundle in use changes in one step",
        "edge_runtime/device/installation.py",
        "        new.replace(self.link)\n",
        "        self.link.unlink(missing_ok=True)\n        new.rename(self.link)\n",
        (_INSTALLATION + "test_killed_before_any_file_operation",),
    ),
    Fault(
        "install: the bundle that a server has open stays",
        "edge_runtime/device/installation.py",
        "                    if free:\n",
        "                    if one:\n",
        (_INSTALLATION + "test_a_bundle_in_use_is_not_removed",),
    ),
    Fault(
        "install: a rollback is checked",
        "edge_runtime/commands/install.py",
        "    check(load_bundle(back[1].path))\n",
        "",
        (
            "tests/edge_runtime/commands/test_install.py::test_a_rollback_is_checked",
            "tests/edge_runtime/commands/test_install.py::test_a_policy_that_remembers_the_newest",
        ),
    ),
    Fault(
        "bundle: a link to it is followed once",
        "edge_runtime/bundle/manifest.py",
        "        folder = folder.resolve()\n",
        "        pass\n",
        (_INSTALLATION + "test_a_loaded_bundle_keeps_its_files",),
    ),
)
