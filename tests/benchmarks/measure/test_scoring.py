"""Scoring several candidates at once: answers in order, failures that stay with their candidate, an interrupt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sonoedge.benchmarks.measure import candidates as measuring
from sonoedge.benchmarks.measure import scoring
from sonoedge.benchmarks.measure.candidates import Planned, measure_all
from sonoedge.benchmarks.measure.opening import Spec
from sonoedge.benchmarks.measure.scoring import Scored, score_together
from sonoedge.benchmarks.records.journal import Journal
from sonoedge.edge_runtime.errors import ModelError

IMAGES = [Path("a"), Path("bb"), Path("ccc")]


class Fake:
    """Answers the length of the path; `meet` waits in the first image until as many candidates are there."""

    def __init__(self, name: str, meet: threading.Barrier | None = None, fails_at: int = -1) -> None:
        self.opened = {"name": name}
        self.meet, self.fails_at, self.asked, self.closed = meet, fails_at, 0, False

    def ask(self, **command: Any) -> dict[str, Any]:
        if self.meet is not None and self.asked == 0:
            self.meet.wait(30)
        if self.asked == self.fails_at:
            raise ModelError("The process crashed.")
        self.asked += 1
        return {"logit": float(len(command["path"])), "timed": command["timed"]}

    def close(self) -> None:
        self.closed = True


def counted(shown: list[int]) -> Callable[[Iterable[Any], str], Iterable[Any]]:
    def bar(items: Iterable[Any], _: str) -> Iterable[Any]:
        for item in items:
            shown.append(item)
            yield item

    return bar


def test_candidates_run_side_by_side() -> None:
    """Both wait for the other one: one after the other would never pass."""
    meet, shown = threading.Barrier(2), list[int]()
    fakes = {name: Fake(name, meet) for name in ("first", "second")}
    openers = {name: partial(lambda fake: fake, fake) for name, fake in fakes.items()}
    found = dict(score_together(openers, IMAGES, 2, counted(shown), timed=False))
    for name in fakes:
        scored = found[name]
        assert isinstance(scored, Scored) and scored.opened == {"name": name}
        assert [answer["logit"] for answer in scored.answers] == [1.0, 2.0, 3.0]
        assert fakes[name].closed
    assert len(shown) == 6


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_a_failure_stays_with_its_candidate(lanes: int, fails_at: int) -> None:
    def refuses() -> Fake:
        raise ModelError("no such kernel")

    shown: list[int] = []
    bad, good = Fake("bad", fails_at=fails_at), Fake("good")
    openers = {"refuses": refuses, "bad": lambda: bad, "good": lambda: good}
    found = dict(score_together(openers, IMAGES, lanes, counted(shown), timed=True))
    assert str(found["refuses"]) == "no such kernel" and str(found["bad"]) == "The process crashed."
    assert isinstance(found["good"], Scored) and all(answer["timed"] for answer in found["good"].answers)
    assert bad.closed and good.closed
    assert len(shown) == 9, "the bar ends, whatever fails"


def test_an_interrupt_ends_it() -> None:
    """Whether Ctrl-C comes to the waiting thread or an unforeseen error to a candidate's."""

    def interrupted() -> Fake:
        raise KeyboardInterrupt

    def bar(items: Iterable[Any], _: str) -> Iterable[Any]:
        return items

    with pytest.raises(KeyboardInterrupt):
        list(score_together({"one": interrupted}, IMAGES, 2, bar, timed=False))


def test_lanes_are_what_cores_and_memory_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six cores and room for two of three candidates: two at a time, the largest first, with two threads each.

    Threads do not depend on memory, nor on what an interrupted run has scored before.
    """
    opened: list[tuple[str, int]] = []

    class Recorded(Fake):
        def __init__(self, spec: Spec) -> None:
            opened.append((spec.artifact, spec.threads))
            super().__init__(spec.artifact)

        def ask(self, **command: Any) -> dict[str, Any]:
            return {**super().ask(**command), "stages_ms": {}}

    monkeypatch.setattr(measuring, "Worker", Recorded)
    monkeypatch.setattr(scoring, "usable_cores", lambda: 6)
    planned = [
        Planned(
            name, "artifact", "tflite", "fp32", size, 0.5, Spec("artifact", "", name, "", "tflite", 3), scores=True
        )
        for name, size in (("small", 10), ("large", 90), ("middle", 50))
    ]
    monkeypatch.setattr(scoring, "memory_bytes", lambda _: 2.6 * measuring._PROCESS_BYTES)
    journal = Journal(tmp_path / "j", "x")
    results, _ = measure_all(planned, IMAGES, None, [], journal, lambda items, _: items)
    assert sorted(opened) == [("large", 2), ("middle", 2), ("small", 2)] and opened[-1][0] == "small"
    assert all(result.logits == [1.0, 2.0, 3.0] for result in results.values())
    journal._steps.pop("score small")
    monkeypatch.setattr(scoring, "memory_bytes", lambda _: None)
    measure_all(planned, IMAGES, None, [], journal, lambda items, _: items)
    assert opened[3:] == [("small", 2)]
