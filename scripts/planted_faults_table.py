"""The faults that `planted_faults.py` plants: one or more behind each safety promise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One replacement of text, and the tests of which at least one must then fail.

    Attributes:
        promise: what the code promises, and the fault breaks.
        path: file in the checkout.
        old, new: ``old`` occurs exactly once there.
        tests: names as pytest takes them; they pass without the fault.
        heavy: they need TensorFlow.
    """

    promise: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    heavy: bool = False


_BUNDLE = "tests/edge_runtime/bundle/test_manifest.py::"
_FILES = "tests/edge_runtime/test_files.py::"
_TRUST = "tests/edge_runtime/bundle/test_trust.py::"
_GATE = "tests/edge_runtime/model/test_gate.py::"
_ASSESS = "tests/edge_runtime/model/test_assess.py::"
_SPLIT = "tests/train/data/test_split.py::"
_GUARD = "tests/export/guard/test_guard.py::"
_STATISTICS = "tests/train/evaluation/test_metrics.py::"
_SERVE = "tests/edge_runtime/serve/test_throttle.py::"

FAULTS = (
    # --- the bundle
    Fault(
        "digests: a changed byte is found",
        "edge_runtime/bundle/checksums.py",
        "if sha256_file(folder / name) != digest:",
        "if not digest:",
        (_BUNDLE + "test_any_changed_byte_is_found",),
    ),
    Fault(
        "digests: a file that is not listed is refused",
        "edge_runtime/bundle/checksums.py",
        "if extra := sorted(present - set(digests)):",
        "if extra := sorted(present - present):",
        (_BUNDLE + "test_extra_file",),
    ),
    Fault(
        "paths: none leads out of the bundle",
        "edge_runtime/bundle/checksums.py",
        'if path.is_absolute() or ".." in path.parts or',
        "if path.is_absolute() or",
        (_BUNDLE + "test_paths_in_the_manifest", _BUNDLE + "test_paths_in_the_sums"),
    ),
    Fault(
        "paths: links are refused",
        "edge_runtime/bundle/checksums.py",
        "if path.is_symlink():",
        "if not path.name:",
        (_BUNDLE + "test_links_are_refused_even_with_the_same_content",),
    ),
    Fault(
        "bundle: an unknown schema is refused",
        "edge_runtime/bundle/manifest.py",
        'if top["schema_version"] != SCHEMA_VERSION:',
        'if not top["schema_version"]:',
        (_BUNDLE + "test_schema_errors",),
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
        "        key.verify(bytes.fromhex(found.signature), (folder / SUMS).read_bytes())\n",
        "",
        (_TRUST + "test_a_forged_signature_is_refused",),
    ),
    Fault(
        "trust: an unknown signer is refused",
        "edge_runtime/bundle/signature.py",
        "if key == found.key), None)",
        "if key), None)",
        (_TRUST + "test_unsigned_and_unknown_signers_are_refused",),
    ),
    Fault(
        "trust: a private key is the owner's alone",
        "edge_runtime/bundle/signature.py",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)",
        (_TRUST + "test_keys_are_private_and_never_overwritten",),
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
    # --- gate and verdict
    Fault(
        "gate: no artifact is published without limits",
        "export/bundle/pipeline.py",
        "if gated and load_gate(bundle, row.name) is None:",
        "if gated and not row.name:",
        ("tests/export/gate/test_gate.py::test_an_artifact_without_limits_is_not_published",),
        heavy=True,
    ),
    Fault(
        "gate: limits leave room for the validation images",
        "export/gate/fit.py",
        'threshold = max(float(np.quantile(views, 1 - BEYOND, method="higher")), far)',
        'threshold = float(np.quantile(views, 1 - BEYOND, method="higher"))',
        ("tests/export/gate/test_gate.py::test_limits_do_not_refuse_what_the_validation_images_promise",),
    ),
    Fault(
        "gate: what is no number is outside",
        "edge_runtime/model/gate.py",
        "return self.distance <= self.threshold",
        "return not self.distance > self.threshold",
        (_GATE + "test_a_nan_is_outside",),
    ),
    Fault(
        "gate: what lies outside is refused",
        "edge_runtime/model/assess.py",
        "if OUTSIDE_TRAINING in reasons or len(reasons) == 2:",
        "if len(reasons) == 2:",
        (_GATE + "test_two_levels_and_the_picture_itself",),
    ),
    Fault(
        "gate: two weak signs are a refusal",
        "edge_runtime/model/assess.py",
        "if OUTSIDE_TRAINING in reasons or len(reasons) == 2:",
        "if OUTSIDE_TRAINING in reasons:",
        (_GATE + "test_two_levels_and_the_picture_itself",),
    ),
    Fault(
        "refused: no probability, no label",
        "edge_runtime/model/classifier.py",
        "withheld = gated and assessment.refused",
        "withheld = gated and not assessment.text",
        (_ASSESS + "test_a_refused_image_has_no_numbers_unless_ungated",),
    ),
    Fault(
        "refused: no heat map",
        "edge_runtime/commands/explain.py",
        "gated=not args.ungated)",
        "gated=False)",
        ("tests/edge_runtime/model/test_refusals.py::test_explain_writes_nothing_of_refused_images",),
    ),
    Fault(
        "refused: the exit code says so",
        "edge_runtime/commands/predict.py",
        "REFUSED_EXIT_CODE if refused else 0",
        "0 if refused else 0",
        (
            "tests/edge_runtime/model/test_refusals.py::test_predict_answers_all_and_keeps_the_numbers_of_refused_images",
        ),
    ),
    Fault(
        "verdict: no number is no answer",
        "edge_runtime/model/classifier.py",
        "if not np.isfinite([prediction.probability, prediction.logit]).all():",
        "if not prediction.artifact:",
        (_ASSESS + "test_what_is_not_a_number_is_no_answer",),
    ),
    Fault(
        "cascade: no model goes without its gate",
        "edge_runtime/model/cascade.py",
        "if self.full.gated != self.first.gated:",
        "if self.full.gated is self.first:",
        (_ASSESS + "test_a_cascade_half_without_a_gate_answers_nothing_gated",),
    ),
    # --- files
    Fault(
        "atomic: a full disk keeps the old file",
        "edge_runtime/files.py",
        "                file.write(data)\n",
        "                path.write_bytes(data[:1])\n                file.write(data)\n",
        (_FILES + "test_full_disk_keeps_the_old_file", _FILES + "test_interrupt_keeps_the_old_file"),
    ),
    Fault(
        "atomic: a folder appears whole or not at all",
        "edge_runtime/files.py",
        "            shutil.rmtree(staging, ignore_errors=True)\n            raise\n",
        "            _swap(staging, target) if target.exists() else staging.rename(target)\n            raise\n",
        (_FILES + "test_an_exception_leaves_the_old_folder_only",),
    ),
    Fault(
        "atomic: a folder of somebody else's stays",
        "edge_runtime/files.py",
        "if target.is_dir() and any(target.iterdir()) and not (target / marker).is_file():",
        "if target.is_dir() and not marker:",
        (_FILES + "test_foreign_folder_is_refused",),
    ),
    Fault(
        "private files: the umask decides",
        "edge_runtime/files.py",
        "                _keep_mode(path, name)\n",
        "                name.chmod(0o644)\n",
        ("tests/edge_runtime/test_files.py::test_the_umask_decides_who_may_read",),
    ),
    # --- split and calibration
    Fault(
        "split: a patient is on one side only",
        "train/data/split.py",
        "sample.group if grouped else sample.relative_path",
        "sample.group if not grouped else sample.relative_path",
        (_SPLIT + "test_grouped_split_properties",),
    ),
    Fault(
        "split: seen in training wins over test",
        "train/data/split.py",
        "key=lambda entry: -SUBSETS.index(entry.subset)",
        "key=lambda entry: SUBSETS.index(entry.subset)",
        (_SPLIT + "test_subset_of_counts_as_test_only_what_was_never_trained_on",),
    ),
    Fault(
        "split: a changed image is not the old one",
        "train/data/split.py",
        "return sample is not None and sample.sha256 == entry.sha256",
        "return sample is not None",
        (_SPLIT + "test_apply_split_lists_missing_changed_and_relabelled_images",),
    ),
    Fault(
        "calibration: never on validation or test images",
        "export/quantize/calibration_audit.py",
        "    if leaked:\n",
        "    if not paths:\n",
        ("tests/export/quantize/test_calibration.py::test_a_test_image_in_the_folder_is_an_error",),
    ),
    Fault(
        "calibration: images come from training",
        "export/quantize/calibration.py",
        'train = data["train"]',
        'train = data["val"]',
        ("tests/export/quantize/test_calibration.py::test_images_come_from_training_balanced_and_repeatable",),
    ),
    Fault(
        "threshold: from validation images only",
        "train/fitting/trainer.py",
        'steady_threshold(val_y, logits["val"])',
        'steady_threshold(subsets["test"].y, logits["test"])',
        ("tests/train/fitting/test_trainer.py::test_the_threshold_comes_from_validation_scores_alone",),
        heavy=True,
    ),
    # --- the guard
    Fault(
        "guard: changed decisions count",
        "export/guard/comparison.py",
        "and self.differing.share <= budget.max_flips + _SLACK",
        "and self.differing.share <= 1",
        (_GUARD + "test_each_part_of_the_budget_counts",),
    ),
    Fault(
        "guard: a loss of AUC counts",
        "export/guard/comparison.py",
        "-self.auc_difference.value <= budget.max_drop + _SLACK",
        "-self.auc_difference.value <= 1",
        (_GUARD + "test_each_part_of_the_budget_counts",),
    ),
    Fault(
        "guard: few images are no PASS",
        "edge_runtime/proportion.py",
        "if interval.high <= limit + SLACK:",
        "if interval.value <= limit + SLACK:",
        (_GUARD + "test_verdicts_come_from_whole_intervals_by_group",),
    ),
    Fault(
        "guard: a file that is not fast enough is refused",
        "export/guard/candidates.py",
        "return not self.speedup(candidate) < self.min_speedup",
        "return not self.speedup(candidate) < 0",
        (_GUARD + "test_a_file_that_is_not_fast_enough_is_not_taken",),
    ),
    Fault(
        "guard: nothing within the budget is exit 8",
        "export/guard/int8.py",
        "if chosen is None and not policy.allow_drop:",
        "if chosen is None and policy.allow_drop:",
        (_GUARD + "test_a_budget_that_nothing_meets_is_refused_with_the_nearest",),
        heavy=True,
    ),
    Fault(
        "export: the last check before publishing",
        "export/bundle/pipeline.py",
        "        _verify(folder, request.formats, gated=request.gate is not None)\n",
        "",
        ("tests/export/commands/test_export.py::test_a_file_that_computes_something_else_is_not_published",),
        heavy=True,
    ),
    # --- images
    Fault(
        "images: a forged size is refused undecoded",
        "edge_runtime/imaging/image.py",
        "if width * height > max_pixels:",
        "if width * height > 1000 * max_pixels:",
        ("tests/edge_runtime/imaging/test_image.py::test_forged_size_is_refused_before_any_pixel_is_decoded",),
    ),
    Fault(
        "statistics: copies do not narrow an interval",
        "edge_runtime/proportion.py",
        "return np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)",
        "return np.arange(count)",
        (_STATISTICS + "test_copies_of_an_image_do_not_narrow_the_intervals",),
    ),
    Fault(
        "statistics: no event counts groups, not images",
        "edge_runtime/proportion.py",
        "return float(self.groups) if none_or_all",
        "return float(self.images) if none_or_all",
        (_STATISTICS + "test_copies_add_no_certainty",),
    ),
    Fault(
        "dicom: an identity changes no grey value",
        "edge_runtime/dicom/pixels.py",
        "        if bits > 8:\n",
        "        if bits > 0:\n",
        (
            "tests/edge_runtime/dicom/test_pixels.py::test_an_identity_changes_no_pixel",
            "tests/edge_runtime/dicom/test_pixels.py::test_a_value_has_one_grey_in_all_frames",
        ),
    ),
    # --- the server
    Fault(
        "serve: requests from other sites are refused",
        "edge_runtime/serve/access.py",
        "if origin is not None and origin != self._origin and _netloc(origin) != host:",
        "if origin is None and not host:",
        (_SERVE + "test_on_loopback_the_own_page_only",),
    ),
    Fault(
        "serve: another name for this address is refused",
        "edge_runtime/serve/access.py",
        "if self._token is None and not is_loopback(_host_name(host)):",
        "if self._token is None and not host:",
        (_SERVE + "test_on_loopback_the_own_page_only",),
    ),
    Fault(
        "serve: the token is asked for",
        "edge_runtime/serve/access.py",
        "if self._token is not None and hmac.compare_digest(token, self._token):",
        "if self._token is not None and hmac.compare_digest(token[:3], self._token[:3]):",
        (_SERVE + "test_elsewhere_the_right_token_only",),
    ),
    Fault(
        "serve: guesses of the token have to wait",
        "edge_runtime/serve/access.py",
        "            self._throttle.wrong(address)\n",
        "",
        (_SERVE + "test_guesses_have_to_wait",),
    ),
)
