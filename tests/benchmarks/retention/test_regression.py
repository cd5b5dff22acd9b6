"""A baseline catches what got worse, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sonoedge.benchmarks.records.runfile import Run, Timing
from sonoedge.benchmarks.retention.regression import Limits, compare_reports
from sonoedge.benchmarks.retention.results import result
from tests.helpers.measured_runs import FULL, candidate, make_run, scored_run


def changed(run: Run, name: str, **changes: object) -> Run:
    return replace(run, candidates=tuple(replace(c, **changes) if c.name == name else c for c in run.candidates))


def worse(before: Run, after: Run, limits: Limits | None = None) -> list[tuple[str, str]]:
    found = compare_reports([result(before)], [result(after)], limits or Limits())
    return [(r.artifact, r.what) for r in found.regressions]


def slowed(run: Run, factor: float) -> Run:
    timing = run.candidate("same").timing
    assert timing is not None
    return changed(run, "same", timing=replace(timing, samples_ms=tuple(factor * v for v in timing.samples_ms)))


def test_the_same_run_is_no_regression() -> None:
    found = compare_reports([result(scored_run())], [result(scored_run())], Limits())
    assert found.regressions == () and found.compared > 10


def test_slower() -> None:
    run = scored_run()
    assert worse(run, slowed(run, 1.25)) == [("same", "p50 ms")]
    assert worse(run, slowed(run, 1.05)) == []
    assert worse(run, slowed(run, 1.25), Limits(slowdown=0.3)) == []
    assert worse(slowed(run, 1.25), run) == []


def test_a_slowdown_within_the_noise_does_not_count() -> None:
    run = scored_run()
    noisy = changed(run, "same", timing=Timing(2, (10.0,) * 20 + (14.0,) * 25, (20, 25)))
    assert worse(run, noisy) == []


def test_timings_of_other_machines_threads_and_throttled_runs_are_not_compared() -> None:
    run, slow = scored_run(), slowed(scored_run(), 2)
    assert worse(run, replace(slow, invalid="throttled")) == []
    assert worse(run, replace(slow, machine=replace(slow.machine, processor="another"))) == []
    timing = slow.candidate("same").timing
    assert timing is not None
    assert worse(run, changed(slow, "same", timing=replace(timing, threads=1))) == []


def test_larger_heavier_broken() -> None:
    run = scored_run()
    assert worse(run, changed(run, "same", size_bytes=1_100_000)) == [("same", "bytes on disk")]
    assert worse(run, changed(run, "same", peak_bytes=100_000_000)) == [("same", "peak memory bytes")]
    broken = changed(run, "same", error="it fell over", timing=None)
    assert worse(run, broken) == [("same", "works (1) or fails (0)")]
    assert worse(run, changed(run, "broken", error="still broken")) == []


def test_less_accurate_on_the_same_images() -> None:
    run = scored_run()
    flipped = changed(run, "same", logits=tuple(-v for v in run.candidate("same").logits or ()))
    assert worse(run, flipped) == [("same", "accuracy"), ("same", "auc")]
    assert run.data is not None
    elsewhere = replace(flipped, data=replace(run.data, digest="e" * 16))
    assert worse(run, elsewhere) == []


def test_nothing_in_common() -> None:
    device = make_run(None, [candidate("same")])
    other = replace(device, machine=replace(device.machine, processor="another"))
    assert compare_reports([result(device)], [result(other)], Limits()).compared == 0


def test_undefined_metrics_are_no_regression() -> None:
    logits = np.full(4, -3.0)
    run = make_run([0, 1, 0, 1], [candidate(FULL, "full", logits=logits)])
    assert worse(run, run) == []
