"""Splitting, calibration, the guard of the export, pages, and the size of the device install."""

from __future__ import annotations

from scripts.faults.fault import Fault

_CANDIDATES = "tests/export/guard/test_candidate_table.py::"
_COMPARISON = "tests/export/guard/test_comparison.py::"
_INT8 = "tests/export/guard/test_int8.py::"
_REQUEST = "tests/train/config/test_request.py::"
_SPLIT = "tests/train/data/test_split.py::"

FAULTS = (
    # --- split and calibration
    Fault(
        "split: a patient is on one side only",
        "train/data/split.py",
        "dataset.groups if grouped else [sample.relative_path",
        "dataset.groups if not grouped else [sample.relative_path",
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
    # --- integer targets
    Fault(
        "integer target: an operator that is not on the list is refused",
        "export/targets/check.py",
        "        if operation not in target.operators:\n",
        "        if not target.operators:\n",
        ("tests/export/targets/test_check.py::test_what_the_target_does_not_take_is_named",),
    ),
    Fault(
        "integer target: nothing is float between input and maps",
        "export/targets/check.py",
        "    integers = {schema.TensorType.INT8,",
        "    written, integers = set(), {schema.TensorType.FLOAT32, schema.TensorType.INT8,",
        ("tests/export/targets/test_check.py::test_int8_throughout_and_exact_pixels",),
    ),
    Fault(
        "integer target: an operator that Vela leaves to the CPU fails it",
        "export/targets/vela.py",
        "    if left:\n",
        "    if not compiled:\n",
        ("tests/export/targets/test_compilers.py::test_what_is_left_to_the_cpu_fails_the_target",),
    ),
    # --- rounding of weights
    Fault(
        "fitted rounding: a layer's results err less",
        "export/quantize/rounding.py",
        "            step = -np.sign(gradient[:, k])\n",
        "            step = np.sign(gradient[:, k])\n",
        ("tests/export/quantize/test_rounding.py::test_results_err_less_and_weights_lie_on_the_grid",),
    ),
    Fault(
        "fitted rounding: the bias takes the mean error",
        "export/quantize/rounding.py",
        "-(errors * mean).sum(axis=1)",
        "(errors * mean).sum(axis=1)",
        ("tests/export/quantize/test_rounding.py::test_results_err_less_and_weights_lie_on_the_grid",),
    ),
    Fault(
        "fitted rounding: constants that operators share stay as they are",
        "export/quantize/rounding.py",
        "            operator.inputs[place] = len(graph.tensors)\n            graph.tensors.append(tensor)\n",
        "            graph.tensors[int(operator.inputs[place])] = tensor\n",
        ("tests/export/quantize/test_rounding.py::test_both_runtimes_get_the_same_weights",),
        heavy=True,
    ),
    Fault(
        "fitted rounding: the file holds it",
        "export/quantize/quantizers.py",
        '        if recipe.rounding == "fitted":\n            rounded =',
        '        if recipe.rounding == "never":\n            rounded =',
        ("tests/export/quantize/test_rounding.py::test_the_file_answers_more_like_float",),
        heavy=True,
    ),
    # --- methods of explanation
    Fault(
        "explanations: the logit is explained, for the class that is asked for",
        "edge_runtime/model/explaining.py",
        "        sign=1.0 if plain.label == result.bundle.positive_label else -1.0,\n",
        "        sign=1.0,\n",
        ("tests/edge_runtime/model/test_explaining.py::test_what_speaks_for_one_class_speaks_against_the_other",),
    ),
    # --- what a training is asked for, and what it leaves
    Fault(
        "options: what does nothing is refused",
        "train/config/request.py",
        "if need.option in names and not need.met(settings):",
        "if need.option in names and not need.option:",
        (_REQUEST + "test_an_option_that_does_nothing_is_refused_if_it_was_given",),
    ),
    Fault(
        "--config: what is given wins over the file",
        "train/config/request.py",
        '((in_file, f"{config}: "), (given, "--"))',
        '((given, "--"), (in_file, f"{config}: "))',
        (_REQUEST + "test_a_yaml_file_speaks_both_spellings_and_what_is_given_wins",),
    ),
    Fault(
        "records: a key that is not known is refused",
        "train/records/reader.py",
        "frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field",
        "frozen=True, kw_only=True, tag_field",
        ("tests/train/records/test_reader.py::test_whatever_is_not_a_card_is_refused",),
    ),
    Fault(
        "--log: no path leaves the run folder",
        "train/tracking.py",
        "**words_only(card.settings)",
        "**words_only(card.settings), **{name: getattr(card.settings, name) for name in ('data', 'weights')}",
        ("tests/train/test_tracking.py::test_mlflow_is_told_figures_and_no_path",),
    ),
    Fault(
        "--config: a run that is repeated has the same settings",
        "train/fitting/trainer.py",
        '"settings": plain(with_whole_paths(settings)),',
        '"settings": plain(with_whole_paths(TrainSettings(settings.data))),',
        ("tests/train/test_api.py::test_a_run_is_repeated_from_its_folder",),
        heavy=True,
    ),
    # --- several sources
    Fault(
        "sources: an image in two of them is refused",
        "train/data/sources.py",
        "if samples[a].source != samples[b].source]",
        "if samples[a].source != samples[a].source]",
        ("tests/train/data/test_sources.py::test_an_image_in_two_sources_is_refused",),
    ),
    Fault(
        "sources: a patient of two classes stays on one side",
        "train/data/split.py",
        "families[sample.source, label_of[unit]].setdefault",
        "families[sample.source, sample.label].setdefault",
        ("tests/train/data/test_split.py::test_a_group_of_two_classes_stays_on_one_side",),
    ),
    # --- the guard
    Fault(
        "guard: changed decisions count",
        "export/guard/comparison.py",
        "and self.differing.share <= budget.max_flips + _SLACK",
        "and self.differing.share <= 1",
        (_COMPARISON + "test_each_part_of_the_budget_counts",),
    ),
    Fault(
        "guard: a loss of AUC counts",
        "export/guard/comparison.py",
        "-self.auc_difference.value <= budget.max_drop + _SLACK",
        "-self.auc_difference.value <= 1",
        (_COMPARISON + "test_each_part_of_the_budget_counts",),
    ),
    Fault(
        "guard: few images are no PASS",
        "edge_runtime/proportion.py",
        "if interval.high <= limit + SLACK:",
        "if interval.value <= limit + SLACK:",
        (_COMPARISON + "test_verdicts_come_from_whole_intervals_by_group",),
    ),
    Fault(
        "guard: a file that is not fast enough is refused",
        "export/guard/candidate_table.py",
        "return not self.speedup(candidate) < self.min_speedup",
        "return not self.speedup(candidate) < 0",
        (_CANDIDATES + "test_a_file_that_is_not_fast_enough_is_not_taken",),
    ),
    Fault(
        "guard: nothing within the budget is exit 8",
        "export/guard/int8.py",
        "if chosen is None and not policy.allow_drop:",
        "if chosen is None and policy.allow_drop:",
        (_INT8 + "test_a_budget_that_nothing_meets_is_refused_with_the_nearest",),
        heavy=True,
    ),
    Fault(
        "export: the last check before publishing",
        "export/bundle/pipeline.py",
        "        _verify(folder, [FORMATS[a.name] for a in artifacts], gated=request.gate is not None)\n",
        "",
        ("tests/export/commands/test_export.py::test_a_file_that_computes_something_else_is_not_published",),
        heavy=True,
    ),
    Fault(
        "export: what costs more than a limit is left out",
        "export/bundle/limits.py",
        "if limit is not None and value > limit:",
        "if limit is not None and value > 2 * limit:",
        ("tests/export/bundle/test_limits.py::test_what_exceeds_a_limit_is_left_out_and_the_fastest_comes_first",),
    ),
    # --- pages and install
    Fault(
        "report: names from files stay text",
        "benchmarks/report/html.py",
        "autoescape=True",
        "autoescape=False",
        ("tests/benchmarks/report/test_page.py::test_names_from_files_stay_text",),
    ),
    Fault(
        "install: a device gets no library more",
        "scripts/checks/device_size.py",
        "if came := found.keys() - OURS - OF_LITERT:",
        "if came := set():",
        ("tests/scripts/test_device_size.py::test_a_distribution_more_a_distribution_less",),
    ),
)
