"""Several bundles on one front, and the recommended files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sonoedge.benchmarks.records.runfile import Run, Timing
from sonoedge.benchmarks.report.choice import pools
from sonoedge.benchmarks.report.page import page
from sonoedge.benchmarks.report.report import body
from sonoedge.benchmarks.report.text import markdown, table
from sonoedge.benchmarks.retention.results import result
from tests.helpers.measured_runs import FULL, candidate, make_run, scored_run

Y = [0, 1] * 30
RIGHT = np.where(np.array(Y) == 1, 2.0, -2.0)
GIGA = 1_000_000_000


def timing(ms: float) -> Timing:
    return Timing(2, tuple(ms * (1 + 0.001 * (i % 3)) for i in range(40)), (20, 20))


def flipped(count: int) -> np.ndarray:
    """As right as `RIGHT` but for so many positives."""
    logits = RIGHT.copy()
    logits[1 : 2 * count : 2] *= -1
    return logits


def fused(**changes: object) -> Run:
    files = [
        candidate(FULL, "full", logits=flipped(3), precision="fp32", timing=timing(400)),
        candidate("tflite-int8", logits=flipped(3), timing=timing(60), macs=20 * GIGA, int8_macs=19 * GIGA),
        candidate("openvino-int8", logits=flipped(3), timing=timing(50), runtime="openvino"),
        candidate("tflite-fp32", logits=flipped(3), timing=timing(200), macs=20 * GIGA, int8_macs=0),
    ]
    return make_run(Y, files, bundle="fused", bundle_digest="f" * 16, **changes)


def student(wrong: int, **changes: object) -> Run:
    """Decides otherwise than the fused model on other images: as accurate, but not the same."""
    logits = RIGHT.copy()
    logits[-2 * wrong :: 2] *= -1  # negatives, the last ones
    files = [candidate("tflite-int8", logits=logits, timing=timing(5), macs=GIGA // 4, int8_macs=GIGA // 5)]
    return make_run(Y, files, bundle="student", bundle_digest="a" * 16, **changes)


def test_bundles_share_a_front_and_a_reference() -> None:
    (pool,) = pools([result(fused()), result(student(3))])
    assert pool.bundles == 2 and pool.reference == f"fused: {FULL}"
    options = {option.label: option for option in pool.options}
    assert set(options) == {
        "fused: tflite-int8", "fused: openvino-int8", "fused: tflite-fp32", "student: tflite-int8",
    }  # fmt: skip
    assert [label for label, option in options.items() if option.front] == ["student: tflite-int8"]
    kept = options["student: tflite-int8"].kept
    assert kept is not None and kept.reference == FULL
    assert (kept.accuracy_kept, kept.flips.total) == (1.0, 6)


def test_one_file_for_each_device_with_its_reason() -> None:
    (pool,) = pools([result(fused()), result(student(3))])
    found = {r.device: r for r in pool.recommendations}
    assert list(found) == ["Pi 4", "Pi 5", "phone", "laptop"]
    for device in ("Pi 4", "Pi 5", "phone"):
        r = found[device]
        assert r.label == "student: tflite-int8" and not r.measured and "not measured" in r.reason
        assert r.low_ms is not None and r.high_ms is not None and 0 < r.low_ms < r.high_ms
        # Six of sixty decisions differ: whoever needs the full model's decisions is told which file to take.
        assert "6 decisions differ" in r.reason and "must be the full model's: fused: tflite-int8" in r.reason
    assert found["Pi 5"].high_ms < found["Pi 4"].high_ms  # type: ignore[operator]


def test_a_student_that_loses_accuracy_is_fast_but_not_recommended() -> None:
    (pool,) = pools([result(fused()), result(student(9))])
    labels = {o.label: o.front for o in pool.options}
    assert labels["student: tflite-int8"]  # the fastest is on the front
    by_device = {r.device: r.label for r in pool.recommendations}
    assert by_device["Pi 4"] == "fused: tflite-int8"  # OpenVINO is not estimated for a Pi


def test_measured_beats_estimated() -> None:
    x86 = replace(fused().machine, architecture="x86_64", processor="x86")
    pi = replace(x86, processor="Raspberry Pi 5 Model B", architecture="aarch64", cores=4)
    measured = [candidate("tflite-int8", timing=timing(300)), candidate("tflite-fp32", timing=timing(700))]
    board = make_run(None, measured, bundle="fused", bundle_digest="f" * 16, machine=pi)
    (pool,) = pools([result(fused(machine=x86)), result(board)])
    found = {r.device: r for r in pool.recommendations}
    assert found["Pi 5"].measured and found["Pi 5"].low_ms == pytest.approx(300, rel=0.01)
    assert "measured on Raspberry Pi 5 Model B" in found["Pi 5"].reason
    assert not found["Pi 4"].measured
    phone = replace(board, machine=replace(pi, processor="SoC", system="Android 14"))
    (pool,) = pools([result(fused(machine=x86)), result(phone)])
    assert [r.measured for r in pool.recommendations] == [False, False, True, True]
    assert (found["laptop"].label, found["laptop"].measured) == ("openvino-int8", True)


def test_nothing_is_pooled_that_was_measured_differently() -> None:
    elsewhere = student(3, machine=replace(fused().machine, processor="another"))
    assert [pool.bundles for pool in pools([result(fused()), result(elsewhere)])] == [1, 1]
    assert len(pools([result(fused()), result(student(3, invalid="throttled"))])) == 1
    assert pools([result(make_run(None, [candidate("x")]))]) == ()
    alone = pools([result(fused(invalid="throttled"))])
    assert alone == ()


def test_no_file_keeps_enough() -> None:
    files = [
        candidate(FULL, "full", logits=RIGHT, precision="fp32"),
        candidate("tflite-int8", logits=flipped(6), macs=GIGA, int8_macs=0),
    ]
    (pool,) = pools([result(make_run(Y, files))])
    by_device = {r.device: r for r in pool.recommendations}
    assert by_device["Pi 4"].label is None and by_device["Pi 4"].reason.startswith("None of 1 files keeps")
    assert by_device["laptop"].label is None and "Nothing here" in by_device["laptop"].reason


def test_the_later_of_two_measurements_counts() -> None:
    later = replace(fused(), created="2026-02-01T00:00:00+00:00", candidates=tuple(
        replace(c, timing=timing(10)) if c.name == "tflite-int8" else c for c in fused().candidates
    ))  # fmt: skip
    for order in ((fused(), later), (later, fused())):
        (pool,) = pools([result(run) for run in order])
        assert len(pool.options) == 3
        own = next(o for o in pool.options if o.name == "tflite-int8")
        assert own.typical_ms == pytest.approx(10, rel=0.01)


def test_it_is_in_every_form_of_the_report() -> None:
    results = [result(fused()), result(student(3))]
    text, plain, marked = page(results, None), table(results, None), markdown(results, None)
    assert "Which file for which device" in text and "All bundles on one front" in text and 'class="dim"' in text
    for form in (plain, marked):
        assert "for a Pi 4: student: tflite-int8, about " in form and "(estimate)" in form
    whole = body(results, None)
    assert whole["pools"][0]["recommendations"][0]["device"] == "Pi 4"
    one = page([result(scored_run())], None)
    assert "Which file for which device" in one and "All bundles on one front" not in one
