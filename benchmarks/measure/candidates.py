"""Measure candidates: scores, latency in interleaved rounds, a thread sweep; each finished step is kept.

Imports edge_runtime and NumPy, so that it runs on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from sonoedge.benchmarks.measure.environment import thermal
from sonoedge.benchmarks.measure.opening import Spec
from sonoedge.benchmarks.measure.scoring import Scored, lanes_for, score_together
from sonoedge.benchmarks.measure.workers import Asked, BenchmarkApp, Worker
from sonoedge.benchmarks.records.journal import Journal
from sonoedge.benchmarks.records.runfile import Protocol, Thermal, Timing
from sonoedge.edge_runtime.device.system import memory_bytes
from sonoedge.edge_runtime.errors import ModelError, SonoEdgeError

Bar = Callable[[Iterable[Any], str], Iterable[Any]]
"""A function that wraps an iterable in a progress bar with a description."""
MODES = {"rapid": (32, 5.0), "quick": (128, 10.0), "normal": (1024, 60.0)}
"""The least number of queries and seconds for each candidate, by mode."""
ROUNDS = 5
_SWEEP_SHARE = 4
_PROCESS_BYTES = 200_000_000
_COPIES = 3
_KERAS_BYTES = 1_500_000_000


@dataclass(frozen=True)
class Planned:
    """A candidate before it is measured.

    Attributes:
        kind, of, note, macs, int8_macs: see `benchmarks.records.runfile.Candidate`.
        spec: how to open the candidate; None for ``benchmark_app`` on ``app_path``.
        scores: whether it is run on images.
        swept: whether it is also timed with other numbers of threads.
        error: why it cannot be measured, if so.
    """

    name: str
    kind: str
    runtime: str
    precision: str
    size_bytes: int
    threshold: float
    spec: Spec | None
    of: str | None = None
    note: str = ""
    app_path: Path | None = None
    scores: bool = False
    swept: bool = False
    error: str | None = None
    macs: int | None = None
    int8_macs: int | None = None

    def open(self, threads: int | None = None) -> Asked:
        """Start the candidate; None for ``threads`` takes the number of ``spec``.

        Raises:
            ModelError: it cannot be opened.
        """
        if self.spec is None:
            assert self.app_path is not None
            return BenchmarkApp(self.app_path, threads or 1)
        return Worker(replace(self.spec, threads=threads or self.spec.threads))

    def threads_of(self, protocol: Protocol) -> int:
        """The number of threads for timing: the candidate's own, or for ``benchmark_app`` the protocol's."""
        return self.spec.threads if self.spec else protocol.threads

    @property
    def expected_bytes(self) -> int:
        """A generous estimate of the memory that the candidate needs, in bytes."""
        return (_KERAS_BYTES if self.kind == "full" else _PROCESS_BYTES) + _COPIES * self.size_bytes


@dataclass
class Measured:
    """The results for one candidate; parts that were not measured are None or empty."""

    error: str | None = None
    opened: dict[str, Any] = field(default_factory=dict)
    logits: list[float] | None = None
    cams: list[Any] | None = None
    escalated: float | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    timing: Timing | None = None
    sweep: list[Timing] = field(default_factory=list)


def measure_all(
    planned: Sequence[Planned],
    images: Sequence[Path],
    protocol: Protocol | None,
    sweep: Sequence[int],
    journal: Journal,
    bar: Bar,
    *,
    scored: bool = True,
) -> tuple[dict[str, Measured], list[Thermal]]:
    """Score, time and sweep; a candidate that fails keeps its reason and does not stop the others.

    Args:
        planned: candidates; those with an ``error`` are only listed.
        images: image files for the candidates that score, and for the times of their stages.
        protocol: of the latency part; None leaves it out.
        sweep: further numbers of threads.
        journal: keeps finished steps.
        bar: shows progress.
        scored: False if only the times of the stages are wanted.

    Returns:
        Results by name, and the processor's state after every step of the latency part.
    """
    results = {p.name: Measured(error=p.error) for p in planned}
    if images and (scored or protocol is None):
        _score(planned, images, results, journal, bar, timed=not scored)
    moments: list[Thermal] = []
    if protocol is not None:
        for number, group in enumerate(_groups(planned, results, interleaved=protocol.interleaved)):
            _time(group, images, protocol, results, journal, f"rounds {number}", bar, moments)
        jobs = [(p, n) for p in planned if p.swept for n in sweep]
        for p, threads in bar(jobs, "threads"):
            if not results[p.name].error:
                with _failures(results[p.name]):
                    _sweep(p, threads, protocol, results[p.name], journal)
                moments.append(thermal())
    return results, moments


@contextmanager
def _failures(result: Measured) -> Iterator[None]:
    """An expected error in the block becomes the error of this candidate; the others go on."""
    try:
        yield
    except SonoEdgeError as error:
        result.error = str(error)


def _score(
    planned: Sequence[Planned],
    images: Sequence[Path],
    results: dict[str, Measured],
    journal: Journal,
    bar: Bar,
    *,
    timed: bool,
) -> None:
    """Run the candidates on all images, several at once; if ``timed`` one at a time, with the stages' times."""
    found = {p.name: journal.get(f"score {p.name}") for p in planned if p.scores and not results[p.name].error}
    # The slowest first, so that none of them is left alone at the end.
    todo = sorted((p for p in planned if p.name in found and not found[p.name]), key=lambda p: -p.expected_bytes)
    lanes, threads = (1, None) if timed else lanes_for([p.expected_bytes for p in todo], of=len(found))
    openers = {p.name: partial(p.open, threads) for p in todo}
    for name, outcome in score_together(openers, images, lanes, bar, timed=timed):
        if isinstance(outcome, SonoEdgeError):
            results[name].error = str(outcome)
        else:
            step = partial(_summary, outcome, timed=timed)
            found[name] = journal.step(f"score {name}", step)
    for name, step in found.items():
        if step:
            result = results[name]
            result.opened, result.logits, result.cams = step["opened"], step["logits"], step["cams"]
            result.stages_ms, result.escalated = step["stages_ms"], step["escalated"]


def _summary(scored: Scored, *, timed: bool) -> dict[str, Any]:
    answers = scored.answers
    asked = [a["escalated"] for a in answers if "escalated" in a]
    return {
        "opened": scored.opened,
        "logits": [a["logit"] for a in answers],
        "stages_ms": _medians([a["stages_ms"] for a in answers]) if timed else {},
        "cams": [a["cam"] for a in answers] if "cam" in answers[0] else None,
        "escalated": sum(asked) / len(asked) if asked else None,
    }


def _medians(stages: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: median(one[key] for one in stages) for key in (stages[0] if stages else ())}


def _groups(planned: Sequence[Planned], results: dict[str, Measured], *, interleaved: bool) -> list[list[Planned]]:
    """Groups of candidates that are open at the same time: one group of all, or several if memory is short."""
    usable = [p for p in planned if not results[p.name].error]
    if interleaved:
        return [usable] if usable else []
    free = 0.8 * (memory_bytes("MemAvailable") or 0)
    groups: list[list[Planned]] = []
    for p in usable:
        if groups and sum(q.expected_bytes for q in [*groups[-1], p]) <= free:
            groups[-1].append(p)
        else:
            groups.append([p])
    return groups


def fits_in_memory(planned: Sequence[Planned]) -> bool:
    """Whether all candidates can be open at once; True if the system does not tell its memory."""
    free = memory_bytes("MemAvailable")
    return free is None or sum(p.expected_bytes for p in planned) <= 0.8 * free


def _time(
    group: Sequence[Planned],
    images: Sequence[Path],
    protocol: Protocol,
    results: dict[str, Measured],
    journal: Journal,
    name: str,
    bar: Bar,
    moments: list[Thermal],
) -> None:
    """Time the candidates of a group in rounds; those that crash drop out.

    After each round a candidate answers for one image, so that every stage is timed with no other beside it.
    """

    def work() -> dict[str, Any]:
        found: dict[str, Any] = {p.name: {"opened": {}, "rounds": [], "stages": [], "error": None} for p in group}
        with ExitStack() as stack:
            workers: dict[str, Asked] = {}
            for p in bar(group, "opening"):
                try:
                    worker = p.open(p.threads_of(protocol))
                except ModelError as error:
                    found[p.name]["error"] = str(error)
                    continue
                stack.callback(worker.close)
                workers[p.name] = worker
                found[p.name]["opened"] = worker.opened
            turns = [(turn, p) for turn in range(protocol.rounds) for p in group]
            for turn, p in bar(turns, "latency, interleaved"):
                if p.name in workers and found[p.name]["error"] is None:
                    try:
                        found[p.name]["rounds"].append(_round(workers[p.name], protocol, turn))
                        if p.scores and images and p.kind != "full":
                            path = images[turn * len(images) // protocol.rounds]
                            answer = workers[p.name].ask(do="score", path=str(path), timed=True)
                            found[p.name]["stages"].append(answer["stages_ms"])
                    except ModelError as error:
                        found[p.name]["error"] = str(error)
                moments.append(thermal())
        return found

    for candidate, found in journal.step(name, work).items():
        result = results[candidate]
        result.error = found["error"]
        result.opened = found["opened"] or result.opened
        if found["error"] is None:
            threads = next(p for p in group if p.name == candidate).threads_of(protocol)
            result.timing = _timing(threads, found["rounds"])
            result.stages_ms = _medians(found["stages"])


def _round(worker: Asked, protocol: Protocol, turn: int) -> list[float]:
    rounds, queries = protocol.rounds, protocol.min_queries
    share = queries // rounds + (1 if turn < queries % rounds else 0)
    samples: list[float] = worker.ask(do="time", queries=share, seconds=protocol.min_seconds / rounds)["samples_ms"]
    return samples


def _sweep(p: Planned, threads: int, protocol: Protocol, result: Measured, journal: Journal) -> None:
    def work() -> list[float]:
        worker = p.open(threads)
        try:
            queries, seconds = protocol.min_queries // _SWEEP_SHARE, protocol.min_seconds / _SWEEP_SHARE
            found: list[float] = worker.ask(do="time", queries=queries, seconds=seconds)["samples_ms"]
            return found
        finally:
            worker.close()

    result.sweep.append(_timing(threads, [journal.step(f"{p.name}, {threads} threads", work)]))


def _timing(threads: int, rounds: Sequence[Sequence[float]]) -> Timing:
    return Timing(threads, tuple(ms for part in rounds for ms in part), tuple(len(part) for part in rounds))
