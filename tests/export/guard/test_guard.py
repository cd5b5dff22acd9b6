"""The accuracy guard: it finds the fragile branch by itself, says what it lost, and keeps to its budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sonoedge.edge_runtime.backends import Runner
from sonoedge.edge_runtime.errors import AccuracyError, DataError, ModelError, UsageError
from sonoedge.edge_runtime.files import sha256_file, write_bytes_atomic
from sonoedge.edge_runtime.proportion import GroupedCount
from sonoedge.export.convert.graphs import pack_tflite, parse_tflite
from sonoedge.export.convert.operators import Operator
from sonoedge.export.guard.agreement import AgreementFrames, agreement_frames
from sonoedge.export.guard.builder import HEAVY_MACS, MIN_SPEEDUP, Rungs, speedup_wanted
from sonoedge.export.guard.candidates import Candidate, Ladder, ladder_table, promise
from sonoedge.export.guard.comparison import Budget, Comparison, compare, refit_threshold
from sonoedge.export.guard.evaluator import CHECKED_IMAGES, PARTS_TOLERANCE, Judge
from sonoedge.export.guard.int8 import Int8Policy, write_int8
from sonoedge.export.guard.search import MIN_INT8_SHARE, climb
from sonoedge.export.quantize.quantizers import TFLiteQuantizer
from sonoedge.export.quantize.recipes import Recipe, assignments
from sonoedge.train.data.dataset import Dataset, Sample
from sonoedge.train.evaluation.intervals import Interval
from sonoedge.train.evaluation.metrics import sigmoid
from tests.helpers.int8_models import SIZE, Bench, bench, noise_images, two_branches

LOOSE = Budget(0.04, 0.04)
"""The small model's logits crowd around the threshold; its fragile branch flips 13 %."""
LOGITS = st.lists(st.floats(-8, 8), min_size=4, max_size=40)


def dataset(labels: list[int]) -> Dataset:
    samples = tuple(
        Sample(Path(f"{i}.png"), f"{i}.png", y, f"g{i}", f"{i:064x}", None) for i, y in enumerate(labels)
    )
    return Dataset(Path(), ("benign", "malignant"), samples)


def alternating(count: int) -> list[int]:
    return [i % 2 for i in range(count)]


@given(LOGITS, st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_a_refitted_threshold_keeps_the_sensitivity_where_any_can(
    values: list[float], seed: int, noise: float
) -> None:
    reference = np.array(values)
    y = np.array(alternating(len(values)))
    logits = reference + noise * np.random.default_rng(seed).standard_normal(len(values))
    threshold = refit_threshold(y, reference, logits, 0.5)
    wanted = int((sigmoid(reference[y == 1]) >= 0.5).sum())
    kept = int((sigmoid(logits[y == 1]) >= threshold).sum())
    # Ties between malignant scores can make a sensitivity unreachable; then the threshold stays.
    assert kept == wanted or threshold == 0.5


def test_a_threshold_moves_no_further_than_it_must() -> None:
    """One malignant image falls just below it, and the next score is far away: no reason to go half-way."""
    reference = np.array([-4.0, -3.0, -2.0, 0.05, 2.0, 3.0])
    logits = np.array([-4.0, -3.0, -2.0, -0.05, 2.0, 3.0])
    threshold = refit_threshold(np.array([0, 0, 0, 1, 1, 1]), reference, logits, 0.5)
    assert 0.4 < threshold < sigmoid(-0.05)


@given(LOGITS)
def test_nothing_changed_nothing_lost(values: list[float]) -> None:
    logits = np.array(values)
    found = compare(dataset(alternating(len(values))), logits, 0.4, logits.copy())
    assert (found.flipped, found.threshold, found.logit_error) == (0, 0.4, 0)
    assert found.within(Budget(0, 0))
    # 40 images without a flip still allow 9 %: never a PASS at 1 %.
    assert found.flips.high > 0.01
    assert found.verdict(Budget(0.01, 0.01)) == "INCONCLUSIVE"
    assert found.verdict(Budget(1, 1)) == "PASS"


def test_expected_flips_see_what_a_lucky_count_hides() -> None:
    """No image flips, but the errors are as large as half of the margins."""
    margins = np.repeat([-1.0, 1.0, -3.0, 3.0], 10)
    errors = np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0, 2.0], 4) * (np.abs(margins) > 2)
    found = compare(dataset(alternating(40)), margins, 0.5, margins + errors)
    assert found.flipped == 0
    # 4 of 40 errors are large, half of them in the harmful direction, for half of the images.
    assert found.expected_flips == pytest.approx(2 / 40 * 20 / 40)
    assert not found.within(Budget(1, 0.02))
    assert found.within(Budget(1, 0.03))


def comparison(flipped: int, error: float, accuracy: float = 0.0, auc: float = 0.0) -> Comparison:
    flips = GroupedCount.of(np.arange(100) < flipped, None)
    return Comparison(np.zeros(100), 0.5, flips, Interval(accuracy, -1, 1), Interval(auc, -1, 1), error)


def candidate(name: str, p50_ms: float, found: Comparison | None, error: str = "") -> Candidate:
    return Candidate(name, Recipe(), Path(name), 1, found, error, p50_ms)


def test_the_fastest_within_the_budget_is_taken_and_noise_is_no_speed() -> None:
    quick = candidate("quick", 10.0, comparison(2, 0.5))
    tied = candidate("tied", 20.0, comparison(1, 0.4))
    exact = candidate("exact", 20.4, comparison(0, 0.1))
    slow = candidate("slow", 30.0, comparison(0, 0.0))
    ladder = Ladder((quick, tied, exact, slow), Budget(), 40.0)
    assert ladder.chosen is exact
    assert replace(ladder, budget=Budget(0.01, 0.02)).chosen is quick
    assert replace(ladder, candidates=(quick,)).chosen is None
    assert ladder.nearest is slow


@pytest.mark.parametrize("found", [comparison(0, 0, accuracy=-0.02), comparison(0, 0, auc=-0.02), comparison(2, 0)])
def test_each_part_of_the_budget_counts(found: Comparison) -> None:
    assert not found.within(Budget(0.01, 0.01))
    assert found.within(Budget(0.02, 0.02))


SURE = Interval(0.0, -0.001, 0.001)


def counted(flipped: int, images: int, copies: int = 1) -> GroupedCount:
    return GroupedCount.of(np.arange(images) < flipped, [f"g{i // copies:05d}" for i in range(images)])


@pytest.mark.parametrize(
    ("flips", "accuracy", "auc", "expected"),
    [
        (counted(0, 400), SURE, SURE, "PASS"),
        (counted(0, 1350), SURE, SURE, "PASS"),
        # The same images as 18 copies each of 75: an AUC by group and flips by image said PASS.
        (counted(0, 1350, 18), SURE, SURE, "INCONCLUSIVE"),
        # Outside by the point estimate, but the interval crosses the budget.
        (counted(2, 100), SURE, SURE, "INCONCLUSIVE"),
        (counted(40, 400), SURE, SURE, "FAIL"),
        (counted(0, 400), SURE, Interval(-0.02, -0.04, -0.015), "FAIL"),
        (counted(0, 400), SURE, Interval(-0.02, -0.04, 0.0), "INCONCLUSIVE"),
        (counted(0, 400), Interval(-0.03, -0.05, -0.02), SURE, "FAIL"),
        # So few flips cannot cost 1 % of the accuracy, whatever the labelled images leave open.
        (counted(0, 400), Interval(0.0, -0.05, 0.05), SURE, "PASS"),
        (counted(0, 400), SURE, Interval(float("nan"), float("nan"), float("nan")), "INCONCLUSIVE"),
    ],
)
def test_verdicts_come_from_whole_intervals_by_group(
    flips: GroupedCount, accuracy: Interval, auc: Interval, expected: str
) -> None:
    found = Comparison(np.zeros(flips.images), 0.5, flips, accuracy, auc, 0.0)
    assert found.verdict(Budget()) == expected


def test_groups_of_the_validation_images_count_in_the_comparison() -> None:
    labels = alternating(1350)
    copies = dataset(labels)
    grouped = replace(
        copies, samples=tuple(replace(s, group=f"source {i // 18}") for i, s in enumerate(copies.samples))
    )
    logits = np.linspace(-4, 4, 1350)
    alone, found = (compare(d, logits, 0.5, logits + 1e-9) for d in (copies, grouped))
    assert (alone.flipped, found.flipped) == (0, 0)
    assert alone.verdicts(Budget())["flips"] == "PASS"
    assert found.verdicts(Budget())["flips"] == "INCONCLUSIVE"
    assert found.flips.high == pytest.approx(1 - 0.025 ** (1 / 75))
    assert found.accuracy_difference.low < -0.04 < alone.accuracy_difference.low
    assert found.missing(Budget()) == 368 - 75


def test_unlabelled_frames_make_the_verdict_certain() -> None:
    flips = GroupedCount.of(np.zeros(95, bool), [f"g{min(i, 70)}" for i in range(95)])
    found = Comparison(np.zeros(95), 0.5, flips, Interval(0.0, -0.05, 0.05), SURE, 0.0)
    assert found.open_words(Budget()) == " (297 more groups for PASS)"
    assert replace(found, frames=counted(0, 296)).verdict(Budget()) == "INCONCLUSIVE"
    enough = replace(found, frames=counted(0, 297))
    assert enough.verdict(Budget()) == "PASS"
    assert enough.open_words(Budget()) == ""
    # Frames that show more flips than the budget allows are no help: the file is outside it.
    assert not replace(found, frames=counted(20, 400)).within(Budget())
    assert replace(found, frames=counted(20, 400)).verdict(Budget()) == "FAIL"


def test_the_table_shows_groups_intervals_and_what_is_missing() -> None:
    flips = GroupedCount.of(np.zeros(95, bool), [f"g{min(i, 70)}" for i in range(95)])
    found = Comparison(np.zeros(95), 0.5, flips, Interval(0.0, -0.05, 0.05), SURE, 0.0)
    table = ladder_table(Ladder((candidate("w8a8", 1.0, found),), Budget(), 2.0))
    assert "0/95 (71 groups) 0.0–5.1 %" in table
    assert "INCONCLUSIVE (297 more groups for PASS) <- taken" in table
    assert "95 validation images in 71 groups" in table
    unsure = replace(found, auc_difference=Interval(0.0, -0.1, 0.1))
    assert "AUC needs more labelled images" in ladder_table(
        Ladder((candidate("w8a8", 1.0, unsure),), Budget(), 2.0)
    )
    zero = ladder_table(Ladder((candidate("w8a8", 1.0, found),), Budget(0, 0), 2.0))
    assert "no number of groups is enough" in zero


@pytest.mark.parametrize("fragile", [0, 1])
def test_the_fragile_branch_is_found_whichever_it_is(fragile: int, tmp_path: Path) -> None:
    place = bench(tmp_path, two_branches(fragile))
    quantizer = place.source.quantizer("tflite")
    ladder = climb(quantizer, place.judge, tmp_path / "ladder", LOOSE, progress=False)
    plain, chosen = ladder.candidates[0], ladder.chosen
    assert not plain.within(ladder.budget)
    assert chosen is not None
    assert chosen.recipe.precision == "mixed"
    kept = {name for name, p in assignments(chosen.recipe, quantizer.operators).items() if p != "w8a8"}
    own, other = ("left", "right")[fragile], ("right", "left")[fragile]
    touched = set().union(*(op.branches for op in quantizer.operators if op.name in kept and len(op.branches) == 1))
    assert touched == {own}, f"{other} is sound and must stay int8"
    assert f"mixed by branch, {own} float" in [c.name for c in ladder.candidates]
    table = ladder_table(ladder)
    assert table.count("<- taken") == 1
    assert "60 validation images" in table
    assert all(np.isfinite(c.p50_ms) for c in ladder.candidates)


def test_a_sound_model_needs_no_search(tmp_path: Path) -> None:
    place = bench(tmp_path, two_branches(None))
    ladder = climb(
        place.source.quantizer("tflite"), place.judge, tmp_path / "ladder", Budget(0.05, 0.05), progress=False
    )
    assert [c.recipe.precision for c in ladder.candidates] == ["w8a8"]
    assert ladder.chosen is ladder.candidates[0]


def test_the_guard_goes_on_to_operators_and_other_ranges_before_it_gives_up(tmp_path: Path) -> None:
    place = bench(tmp_path, two_branches(1))
    quantizer = place.source.quantizer("tflite")
    ladder = climb(quantizer, place.judge, tmp_path / "ladder", Budget(-1, -1), progress=False)
    assert ladder.chosen is None
    names = [c.name for c in ladder.candidates]
    for rule in quantizer.range_rules:
        assert f"w8a8, {rule} ranges" in names
    spared = [
        {op.name for op in quantizer.operators if assignments(c.recipe, quantizer.operators)[op.name] == "float"}
        for c in ladder.candidates
    ]
    left = {op.name for op in quantizer.operators if op.branches == {"left"}}
    assert any(kept & left for kept in spared), "operators of the sound branch are spared too"
    assert all(c.int8_share >= MIN_INT8_SHARE for c in ladder.candidates)


def test_where_float_would_do_most_of_the_work_the_float16_file_is_named(tmp_path: Path) -> None:
    """Both branches are equally heavy: sparing the fragile one would leave half of the multiply-adds in int8."""
    place = bench(tmp_path, two_branches(1, wide=8))
    with pytest.raises(AccuracyError, match="--format tflite-fp16"):
        int8(place, Int8Policy(Budget(0, 0), validation=place.judge.dataset), tmp_path / "out", [])
    assert not (tmp_path / "out" / "backbone.tflite").exists()


def test_a_file_that_is_not_fast_enough_is_not_taken() -> None:
    exact, quick = candidate("exact", 20.0, comparison(0, 0.1)), candidate("quick", 10.0, comparison(9, 0.1))
    ladder = Ladder((exact, quick), Budget(), 30.0, min_speedup=3.0)
    assert ladder.chosen is None
    assert replace(ladder, min_speedup=1.5).chosen is exact
    assert ladder.speedup(quick) == 3.0 and ladder.is_fast(quick)


@pytest.mark.parametrize(
    ("macs", "dot_products", "wanted"),
    [(HEAVY_MACS, ["AVX512-VNNI"], MIN_SPEEDUP), (HEAVY_MACS, [], 0.0), (HEAVY_MACS - 1, ["AVX512-VNNI"], 0.0)],
)
def test_speed_is_demanded_of_heavy_models_on_processors_with_int8_dot_products(
    macs: int, dot_products: list[str], wanted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonoedge.export.guard.builder.int8_dot_products", lambda: dot_products)
    quantizer = SimpleNamespace(operators=(Operator("a", "CONV_2D", frozenset({"left"}), macs=macs),))
    assert speedup_wanted(quantizer) == wanted  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A model whose right branch is fragile."""
    return bench(tmp_path_factory.mktemp("broken"), two_branches(1))


def int8(place: Bench, policy: Int8Policy, out: Path, lines: list[str]) -> object:
    out.mkdir()
    (out / "scratch").mkdir()
    return write_int8(
        place.source, "tflite", out / "backbone.tflite", place.folder / "head.tflite", policy,
        place.judge.threshold, out / "scratch", say=lines.append, progress=False,
    )  # fmt: skip


def test_a_budget_that_nothing_meets_is_refused_with_the_nearest(
    broken: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every candidate decides the other way round, so no mix can be within the budget."""
    monkeypatch.setattr("sonoedge.export.guard.evaluator.compare", lambda *given: compare(*given[:3], -given[3]))
    lines: list[str] = []
    policy = Int8Policy(Budget(0.0, 0.0), validation=broken.judge.dataset, precision="guard")
    with pytest.raises(AccuracyError) as refused:
        int8(broken, policy, tmp_path / "zero", lines)
    for part in ("candidate", "Nearest: ", "--allow-drop"):
        assert part in str(refused.value)
    assert not (tmp_path / "zero" / "backbone.tflite").exists()
    choice = int8(broken, replace(policy, allow_drop=True), tmp_path / "allowed", lines)
    assert any("outside the budget" in line for line in lines)
    assert choice.candidate.comparison.flipped > 0
    assert (tmp_path / "allowed" / "backbone.tflite").is_file()


def test_float16_weights_make_the_same_mix_smaller(broken: Bench, tmp_path: Path) -> None:
    policy = Int8Policy(LOOSE, validation=broken.judge.dataset)
    whole = int8(broken, policy, tmp_path / "whole", [])
    half = int8(broken, replace(policy, float16_weights=True), tmp_path / "half", [])
    sizes = [{c.name: c.size_bytes for c in choice.ladder.candidates} for choice in (whole, half)]
    assert sizes[1]["mixed by branch, right float16"] < sizes[0]["mixed by branch, right float"]


def test_a_second_run_takes_everything_from_the_cache(
    broken: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Int8Policy(LOOSE, validation=broken.judge.dataset)
    first = int8(broken, policy, tmp_path / "first", [])
    monkeypatch.setattr(
        "sonoedge.export.quantize.recorders.TFLiteRecorder.values", lambda *_: pytest.fail("calibrated again")
    )
    monkeypatch.setattr("sonoedge.export.guard.evaluator.Judge._logit", lambda *_: pytest.fail("measured again"))
    second = int8(broken, policy, tmp_path / "second", [])
    assert [c.name for c in second.ladder.candidates] == [c.name for c in first.ladder.candidates]
    for a, b in zip(first.ladder.candidates, second.ladder.candidates, strict=True):
        assert np.array_equal(a.comparison.logits, b.comparison.logits)


def test_the_stored_recipe_repeats_the_file(broken: Bench, tmp_path: Path) -> None:
    choice = int8(broken, Int8Policy(LOOSE, validation=broken.judge.dataset), tmp_path / "guard", [])
    policy = Int8Policy(LOOSE, validation=broken.judge.dataset, recipe=choice.recipe)
    again = int8(broken, policy, tmp_path / "again", [])
    files = [tmp_path / name / "backbone.tflite" for name in ("guard", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert again.threshold == choice.threshold


def test_mixed_is_a_mix_even_where_plain_would_do(broken: Bench, tmp_path: Path) -> None:
    policy = Int8Policy(Budget(1, 1), "mixed", validation=broken.judge.dataset)
    choice = int8(broken, policy, tmp_path / "mixed", [])
    assert choice.ladder.candidates[0].within(Budget(1, 1))
    assert choice.recipe.precision == "mixed"


def test_the_guard_needs_validation_images(broken: Bench, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the validation images"):
        int8(broken, Int8Policy(), tmp_path / "none", [])


class Lacking(TFLiteQuantizer):
    """Candidates with an operator that no interpreter has: all of them, or only the plain one."""

    everything = False

    def build(self, path: Path, recipe: Recipe, branch: str | None = None) -> None:
        super().build(path, recipe, branch)
        if branch is None and (self.everything or recipe.precision == "w8a8"):
            model = parse_tflite(path.read_bytes())
            code = model.operatorCodes[model.subgraphs[0].operators[-1].opcodeIndex]
            code.builtinCode = code.deprecatedBuiltinCode = 32  # CUSTOM
            code.customCode = "FancySwish"
            write_bytes_atomic(path, pack_tflite(model))


def lacking(place: Bench) -> Lacking:
    return Lacking(place.source.tflite_float, place.source.activations)


def test_a_candidate_that_the_interpreter_lacks_an_operator_for_is_skipped(broken: Bench, tmp_path: Path) -> None:
    ladder = climb(lacking(broken), broken.judge, tmp_path, LOOSE, progress=False)
    plain = ladder.candidates[0]
    assert plain.comparison is None
    assert "CUSTOM 'FancySwish'" in plain.error
    assert ladder.chosen is not None
    table = ladder_table(ladder)
    assert "skipped" in table
    assert "CUSTOM" in table


@pytest.mark.parametrize(("parts_by", "runs"), [("percentile", CHECKED_IMAGES), ("extremes", 60)])
def test_a_whole_file_runs_on_few_images_only_if_it_gives_what_its_branches_gave(
    parts_by: str, runs: int, broken: Bench, tmp_path: Path
) -> None:
    """Either way the figures are those of the whole file."""
    known, head = broken.judge, broken.folder / "head.tflite"
    judge, afresh = (
        Judge(known.dataset, (SIZE, SIZE), "tflite", head, known.float_path, 0.5, cache=tmp_path / name)
        for name in ("cache", "other")
    )
    quantizer, whole = broken.source.quantizer("tflite"), tmp_path / "whole.tflite"
    quantizer.build(whole, Recipe(ranges="percentile"))
    parts = {branch: tmp_path / f"{branch}.tflite" for branch in judge.branches}
    for branch, path in parts.items():
        quantizer.build(path, Recipe(ranges=parts_by), branch)
    counted = Counting(judge.open(whole))
    found = judge.compare(whole, counted, "whole", parts)
    assert counted.runs == runs
    np.testing.assert_allclose(
        found.logits, afresh.compare(whole, afresh.open(whole), "whole").logits, atol=PARTS_TOLERANCE
    )
    # What the gate looks at is kept with them, in the order asked for.
    names = list(judge.branches)[::-1]
    features, exact = (j.features(whole, j.open(whole), names) for j in (judge, afresh))
    assert features.keys() == {sample.sha256 for sample in known.dataset.samples}
    for digest, row in features.items():
        np.testing.assert_allclose(row, exact[digest], atol=1e-5)


class Counting:
    """An open backbone that counts its calls."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self.runs = runner, 0

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.runs += 1
        return self._runner.run(inputs)


def test_nothing_runs(broken: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = lacking(broken)
    quantizer.everything = True
    monkeypatch.setattr(broken.source, "quantizer", lambda runtime: quantizer)
    with pytest.raises(ModelError, match="operator CUSTOM 'FancySwish'"):
        int8(broken, Int8Policy(LOOSE, validation=broken.judge.dataset), tmp_path / "out", [])


def test_figures_for_the_bundle_are_plain_json(broken: Bench, tmp_path: Path) -> None:
    import json

    rungs = Rungs(broken.source.quantizer("tflite"), broken.judge, tmp_path)
    rungs.add("w8a8", Recipe())
    body = rungs.ladder(Budget(), runs=5).candidates[0].to_json(Budget())
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    assert body["flips"][1] <= body["flips"][0] <= body["flips"][2]
    assert body["verdict"] in {"PASS", "FAIL", "INCONCLUSIVE"}


def unlabelled(folder: Path, count: int = 30) -> AgreementFrames:
    noise_images(folder, count, 7)
    return agreement_frames(folder, {})


def test_the_published_file_is_compared_on_unlabelled_frames_too(broken: Bench, tmp_path: Path) -> None:
    frames = unlabelled(tmp_path / "frames")
    policy = Int8Policy(LOOSE, validation=broken.judge.dataset, agreement=frames, allow_drop=True)
    lines: list[str] = []
    choice = int8(broken, policy, tmp_path / "guard", lines)
    found = choice.candidate.comparison
    assert found.frames.images == 30
    assert found.all_flips.groups == found.differing.groups + found.frames.groups
    assert any(f"{found.frames.events}/30 (" in line for line in lines)
    assert choice.candidate.to_json(LOOSE)["agreement"]["images"] == 30
    rows = [json.loads(line) for line in frames.lines().splitlines()]
    assert {row["runtime"] for row in rows} == {"tflite"}
    assert len(rows) == 30
    assert set(rows[0]) == {"sha256", "group", "runtime", "logit", "positive"}


def test_frames_can_refuse_what_validation_images_took(
    broken: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Turned(AgreementFrames):
        def add_to(self, candidate: Candidate, judge: Judge, runner: object) -> Candidate:
            frames = GroupedCount.of(np.arange(30) < 15, None)
            return replace(candidate, comparison=replace(candidate.comparison, frames=frames))

    frames = Turned(unlabelled(tmp_path / "frames").dataset)
    policy = Int8Policy(LOOSE, validation=broken.judge.dataset, agreement=frames)
    with pytest.raises(AccuracyError, match="not on the frames of --agreement-data: 15/30"):
        int8(broken, policy, tmp_path / "guard", [])
    assert not (tmp_path / "guard" / "backbone.tflite").exists()
    choice = int8(broken, replace(policy, allow_drop=True), tmp_path / "allowed", [])
    assert not promise(choice.candidate, LOOSE)["kept"]


def test_frames_that_the_run_knows_are_refused(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "frames", 4, 7)
    with pytest.raises(DataError, match=r"1 of the 4 images .* were used for val"):
        agreement_frames(tmp_path / "frames", {sha256_file(paths[2]): "val"})


def test_near_duplicates_are_one_group_unless_a_csv_names_patients(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "frames", 3, 7)
    Image.open(paths[0]).resize((48, 48)).save(tmp_path / "frames" / "larger.png")
    assert len(set(agreement_frames(tmp_path / "frames", {}).dataset.groups)) == 3
    (tmp_path / "frames" / "images.csv").write_text(
        "image,patient\n000.png,A\n001.png,A\n002.png,A\nlarger.png,B\n"
    )
    assert len(set(agreement_frames(tmp_path / "frames", {}).dataset.groups)) == 2


@pytest.mark.parametrize("precision", ["w8a8", "recipe", "mixed"])
def test_what_was_asked_for_says_that_nothing_is_promised(broken: Bench, tmp_path: Path, precision: str) -> None:
    """A budget of 0 for 13 % of flips: these options write the file, and say so."""
    asked = {"recipe": Recipe("w8a8", ranges="extremes")}.get(precision)
    tight = Budget(0.0, 0.0)
    name = "guard" if precision == "recipe" else precision
    choice = int8(broken, Int8Policy(tight, name, asked, validation=broken.judge.dataset), tmp_path / "out", [])
    found = promise(choice.candidate, tight)
    assert found["kept"] == choice.candidate.within(tight)
    if precision != "mixed":
        assert found["kept"] is False
        assert found["text"].startswith("no accuracy promise: outside the budget")
    assert promise(choice.candidate, Budget(1, 1))["kept"] is True
    assert promise(None, tight) == {
        "kept": False, "text": "no accuracy promise: not measured, there are no validation images",
    }  # fmt: skip


@pytest.mark.slow
def test_openvino_finds_the_fragile_branch_too(tmp_path: Path) -> None:
    place = bench(tmp_path, two_branches(0), "openvino")
    quantizer = place.source.quantizer("openvino")
    ladder = climb(quantizer, place.judge, tmp_path / "ladder", LOOSE, progress=False)
    assert ladder.chosen is not None
    assert set(ladder.candidates[0].device["executed"]) & {"i8", "u8"}
    if ladder.chosen.recipe.precision == "mixed":
        kept = {n for n, p in assignments(ladder.chosen.recipe, quantizer.operators).items() if p == "float16"}
        assert {b for op in quantizer.operators if op.name in kept for b in op.branches} == {"left"}
