"""Pictures and the answers to them: the gate, verdicts, decoding, intervals."""

from __future__ import annotations

from scripts.faults.fault import Fault

_ASSESS = "tests/edge_runtime/model/test_assess.py::"
_GATE = "tests/edge_runtime/model/test_gate.py::"
_INTERVALS = "tests/train/evaluation/test_intervals.py::"
_METRICS = "tests/train/evaluation/test_metrics.py::"

FAULTS = (
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
        "edge_runtime/model/predictor.py",
        "withheld = assessment.refused and not ungated",
        "withheld = not assessment.text and not ungated",
        (_ASSESS + "test_a_refused_image_has_no_numbers_unless_ungated",),
    ),
    Fault(
        "refused: no heat map",
        "edge_runtime/commands/explain.py",
        "ungated=args.ungated)",
        "ungated=True)",
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
        "edge_runtime/model/predictor.py",
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
    # --- images
    Fault(
        "images: a forged size is refused undecoded",
        "edge_runtime/imaging/image.py",
        "if width * height > max_pixels:",
        "if width * height > 1000 * max_pixels:",
        ("tests/edge_runtime/test_decoding.py::test_forged_size_is_refused_before_any_pixel_is_decoded",),
    ),
    Fault(
        "statistics: copies do not narrow an interval",
        "edge_runtime/proportion.py",
        "return np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)",
        "return np.arange(count)",
        (_METRICS + "test_copies_of_an_image_do_not_narrow_the_intervals",),
    ),
    Fault(
        "statistics: no event counts groups, not images",
        "edge_runtime/proportion.py",
        "return float(self.groups) if none_or_all",
        "return float(self.images) if none_or_all",
        (_INTERVALS + "test_copies_add_no_certainty",),
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
)
