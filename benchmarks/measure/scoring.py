"""Score images with several candidates at once. edge_runtime only.

Each candidate has few threads, so that no core waits for another: two candidates with one thread each answer more
images than one candidate with two. Answers do not depend on that. Latency does: it is measured apart, with one
candidate at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from sonoedge.benchmarks.measure.workers import Asked
from sonoedge.edge_runtime.backends import usable_cores
from sonoedge.edge_runtime.device.system import memory_bytes
from sonoedge.edge_runtime.errors import SonoEdgeError


@dataclass(frozen=True)
class Scored:
    """What a candidate said when it was opened, and its answer for every image."""

    opened: dict[str, Any]
    answers: list[dict[str, Any]]


def score_together(
    openers: Mapping[str, Callable[[], Asked]],
    images: Sequence[Path],
    lanes: int,
    bar: Callable[[Iterable[Any], str], Iterable[Any]],
    **options: Any,
) -> Iterator[tuple[str, Scored | SonoEdgeError]]:
    """Yield each candidate's name with its answers, or with the reason why it failed, as soon as it is finished.

    Args:
        openers: by name, a function that starts the candidate; they start in this order.
        images: image files, at least one.
        lanes: how many candidates are open at a time.
        bar: shows progress over all images of all candidates.
        options: of each request.
    """
    waiting: SimpleQueue[str] = SimpleQueue()
    for name in openers:
        waiting.put(name)
    # One entry for each image of each candidate; the last one of a candidate holds its outcome.
    finished: SimpleQueue[tuple[str, Scored | BaseException | None]] = SimpleQueue()
    stopped = threading.Event()

    def lane() -> None:
        while not stopped.is_set():
            try:
                name = waiting.get_nowait()
            except Empty:
                return
            answers: list[dict[str, Any]] = []
            outcome: Scored | BaseException
            try:
                worker = openers[name]()
                try:
                    for path in images:
                        if stopped.is_set():
                            return
                        answers.append(worker.ask(do="score", path=str(path), **options))
                        if len(answers) < len(images):
                            finished.put((name, None))
                    outcome = Scored(worker.opened, answers)
                finally:
                    worker.close()
            except BaseException as error:  # noqa: BLE001 the caller's thread raises it
                outcome = error
                for _ in range(len(images) - len(answers) - 1):
                    finished.put((name, None))
            finished.put((name, outcome))

    # Daemons: after Ctrl-C nobody waits for a candidate that is being opened; it ends with this process.
    for _ in range(min(lanes, len(openers))):
        threading.Thread(target=lane, daemon=True).start()
    try:
        for _ in bar(range(len(openers) * len(images)), "scoring"):
            name, outcome = finished.get()
            if isinstance(outcome, Scored | SonoEdgeError):
                yield name, outcome
            elif outcome is not None:
                raise outcome
    finally:
        stopped.set()


def lanes_for(sizes: Sequence[int], *, of: int) -> tuple[int, int]:
    """How many candidates score at once, and with how many threads each: all cores, as far as memory goes.

    The threads follow from cores and candidates alone. The last bits of an answer may depend on them; they must not
    depend on free memory, nor on what an interrupted run has scored before.

    Args:
        sizes: expected bytes of the candidates that are not scored yet.
        of: the number of all that score.
    """
    cores, free = usable_cores(), memory_bytes("MemAvailable")
    threads = max(1, cores // max(1, of))
    lanes = max(1, min(cores // threads, len(sizes)))
    largest = sorted(sizes, reverse=True)
    while free is not None and lanes > 1 and sum(largest[:lanes]) > 0.8 * free:
        lanes -= 1
    return lanes, threads
