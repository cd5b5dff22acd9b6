"""Latency: percentiles that the count supports, rounds in turns, failures that stay with their candidate."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sonoedge.benchmarks.measure import candidates as measuring
from sonoedge.benchmarks.measure.candidates import Planned, measure_all
from sonoedge.benchmarks.measure.opening import Spec
from sonoedge.benchmarks.measure.planning import thread_counts
from sonoedge.benchmarks.measure.workers import Worker
from sonoedge.benchmarks.records.journal import Journal
from sonoedge.benchmarks.records.runfile import Protocol, Timing
from sonoedge.benchmarks.retention.results import pareto
from sonoedge.benchmarks.retention.speeds import speed
from sonoedge.edge_runtime.device.latency import percentiles, time_calls
from sonoedge.edge_runtime.errors import ModelError

PROTOCOL = Protocol("rapid", 6, 0.0, 3, 2, True)


@pytest.mark.parametrize(
    ("count", "p90", "p99"),
    [(1, False, False), (29, False, False), (30, True, False), (299, True, False), (300, True, True)],
)
def test_a_percentile_needs_three_calls_beyond_it(count: int, p90: bool, p99: bool) -> None:
    found = percentiles([0.001 * (i + 1) for i in range(count)])
    assert (found.p90_ms is not None, found.p99_ms is not None, found.runs) == (p90, p99, count)


def test_minimum_count_and_minimum_time() -> None:
    calls: list[int] = []
    assert len(time_calls(lambda: calls.append(1), min_calls=7)) == len(calls) == 7
    seconds = time_calls(lambda: None, min_calls=1, min_seconds=0.01)
    assert sum(seconds) >= 0.01 and len(seconds) > 1


def test_noise_is_the_range_of_round_medians() -> None:
    found = speed(Timing(2, (1.0, 1.0, 9.0, 2.0, 2.0, 2.0), (3, 3)))
    assert found is not None
    assert (found.low_ms, found.high_ms, found.queries, found.p90_ms) == (1.0, 2.0, 6, None)


def test_pareto_front() -> None:
    points = {"a": (10.0, 0.9), "b": (20.0, 0.9), "c": (30.0, 0.95), "d": (10.0, 0.9), "e": (5.0, 0.5)}
    assert pareto(points) == {"a", "c", "d", "e"}


def test_threads_swept() -> None:
    assert thread_counts(2, 4) == [1, 4]
    assert thread_counts(4, 6) == [1, 2, 6]
    assert thread_counts(1, 1) == []


class FakeWorker:
    """Answers as a worker would; ``broken`` fails to open, ``fragile`` crashes in the second round."""

    log: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, spec: Spec) -> None:
        self.name, self.rounds, self.opened = spec.artifact, 0, {"init_ms": 1.0, "peak_bytes": 5}
        self.log.append((self.name, "open"))
        if self.name == "broken":
            raise ModelError("no such kernel")

    def ask(self, **command: Any) -> dict[str, Any]:
        self.log.append((self.name, command["do"]))
        if command["do"] == "score":
            stages = {"invoke": 2.0, "explain": 1.0 + self.rounds} if command["timed"] else {"invoke": 9.0}
            return {"logit": float(len(command["path"])), "stages_ms": stages}
        self.rounds += 1
        if self.name == "fragile" and self.rounds == 2:
            raise ModelError("The process crashed (exit code -11).")
        return {"samples_ms": [1.5] * command["queries"]}

    def close(self) -> None:
        self.log.append((self.name, "close"))


@pytest.fixture
def fake_workers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    FakeWorker.log = []
    monkeypatch.setattr(measuring, "Worker", FakeWorker)
    return FakeWorker.log


def plan(*names: str) -> list[Planned]:
    return [
        Planned(
            name, "artifact", "tflite", "fp32", 10, 0.5, Spec("artifact", "", name, "", "tflite", 2),
            scores=True, swept=True,
        )
        for name in names
    ]  # fmt: skip


def bar(items: Iterable[Any], _: str) -> Iterable[Any]:
    return items


def test_turns_and_failures(tmp_path: Path, fake_workers: list[tuple[str, str]]) -> None:
    planned, images = plan("good", "broken", "fragile", "other"), [Path("a"), Path("bb")]
    found, _ = measure_all(planned, images, PROTOCOL, [1], Journal(tmp_path / "j", "x"), bar)
    assert found["good"].logits == [1.0, 2.0]
    assert found["good"].timing == Timing(2, (1.5,) * 6, (2, 2, 2))
    assert found["good"].sweep == [Timing(1, (1.5,), (1,))]
    # The stages are those of the rounds, in which nothing else runs: after the first, the second and the third.
    assert found["good"].stages_ms == {"invoke": 2.0, "explain": 3.0}
    assert found["broken"].error == "no such kernel"
    assert found["fragile"].error == "The process crashed (exit code -11)."
    assert found["fragile"].timing is None and found["fragile"].logits == [1.0, 2.0]
    turns = [name for name, what in fake_workers if what == "time"]
    assert turns[:6] == ["good", "fragile", "other"] * 2 and turns[6:8] == ["good", "other"]
    assert sum(what == "open" for _, what in fake_workers) - 1 == sum(what == "close" for _, what in fake_workers)


def test_an_interrupted_run_goes_on(tmp_path: Path, fake_workers: list[tuple[str, str]]) -> None:
    path = tmp_path / "run.partial"
    measure_all(plan("a"), [Path("i")], None, [], Journal(path, "same"), bar)
    scored = len(fake_workers)
    found, _ = measure_all(plan("a", "b"), [Path("i")], None, [], Journal(path, "same"), bar)
    assert found["a"].logits == [1.0]
    assert [name for name, _ in fake_workers[scored:]] == ["b"] * 3
    assert Journal(path, "same").resumed == 2
    assert Journal(path, "other settings").resumed == 0
    path.write_text("{ half a fi")
    assert Journal(path, "same").resumed == 0


def test_the_journal_is_plain_json(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "x")
    assert journal.step("one", lambda: {"a": [1]}) == {"a": [1]}
    assert journal.step("one", lambda: 1 / 0) == {"a": [1]}
    assert json.loads((tmp_path / "j").read_text())["steps"] == {"one": {"a": [1]}}
    journal.remove()
    assert not (tmp_path / "j").exists()


def test_short_memory_is_measured_in_groups(
    tmp_path: Path, fake_workers: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "memory_bytes", lambda name: 300_000_000)
    assert not measuring.fits_in_memory(plan("a", "b"))
    apart = Protocol("rapid", 6, 0.0, 3, 2, False)
    found, _ = measure_all(plan("a", "b"), [], apart, [], Journal(tmp_path / "j", "x"), bar)
    assert found["a"].timing == found["b"].timing == Timing(2, (1.5,) * 6, (2, 2, 2))
    opened = [(name, what) for name, what in fake_workers if what != "time"]
    assert opened == [("a", "open"), ("a", "close"), ("b", "open"), ("b", "close")]


def test_a_candidate_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sonoedge.benchmarks.measure.workers.TIMEOUT_S", 0.01)
    with pytest.raises(ModelError, match="no answer within"):
        Worker(Spec("artifact", str(tmp_path), "a", str(tmp_path), "tflite", 1))
