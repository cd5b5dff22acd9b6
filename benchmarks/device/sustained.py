"""``sonoedge benchmark --sustained``: does this machine keep its speed? edge_runtime and NumPy only.

One artifact computes frame after frame in a process of its own. Once a second the temperature, the clock, the
firmware's throttling flags and the memory are read; that takes the processor a few milliseconds of rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np

from sonoedge.benchmarks.measure.environment import machine, thermal, why_invalid
from sonoedge.benchmarks.measure.opening import Spec
from sonoedge.benchmarks.measure.planning import checked_threads
from sonoedge.benchmarks.measure.workers import Asked, Worker
from sonoedge.benchmarks.records.runfile import Thermal
from sonoedge.benchmarks.records.sustained import (
    SCHEMA_VERSION,
    SUSTAINED_KIND,
    Moment,
    Sustained,
    Window,
    write_sustained,
)
from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.bundle.trust import load_trusted
from sonoedge.edge_runtime.device.latency import percentiles
from sonoedge.edge_runtime.device.system import memory_bytes
from sonoedge.edge_runtime.errors import ModelError, UsageError
from sonoedge.edge_runtime.model.classifier import first_runnable
from sonoedge.edge_runtime.words import INTENDED_USE

WINDOWS = 60
SLOWER = 1.1
"""A run counts as slowed down if the last tenth's median is more than this many times the first's."""
_SHORTEST_S, _LONGEST_S = 1.0, 86_400.0
_FEWEST_FRAMES = 5
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

Tell = Callable[[float, float, Moment], None]
"""Gets the seconds gone, the median milliseconds of the last second, and the machine."""


def parse_duration(text: str) -> float:
    """Seconds of a time such as ``90s``, ``10m`` or ``1h``.

    Raises:
        UsageError: it is no such time, shorter than a second or longer than a day.
    """
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smh])", text)
    if found is None:
        raise UsageError(f"--sustained takes a time such as 90s, 10m or 1h. Received: {text!r}.")
    seconds = float(found[1]) * _UNITS[found[2]]
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise UsageError(f"--sustained takes 1s to 24h. Received: {text!r}.")
    return seconds


def sustained(
    bundle_path: Path, out: Path, seconds: float, *, artifact: str | None, threads: int | None, tell: Tell
) -> Sustained:
    """Run one artifact for a time and write the run file. After Ctrl-C or a crash, what was measured is written.

    Args:
        bundle_path: bundle folder.
        out: run file.
        seconds: how long, see `parse_duration`.
        artifact: name; None takes the first that can run here.
        threads: for the interpreter; None takes `edge_runtime.backends.default_threads`.
        tell: is called once a second.

    Raises:
        BundleError, UsageError, MissingExtraError: nothing can be measured.
        ModelError: the artifact cannot be opened, or fails before the first second is over.
        KeyboardInterrupt: before the first second was over.
    """
    if out.is_dir():
        raise UsageError(f"--out names a file with --sustained; {out} is a folder.")
    bundle = load_trusted(bundle_path)
    chosen = bundle.artifact(artifact) if artifact else first_runnable(bundle)
    count = checked_threads(threads)
    spec = Spec("artifact", "", chosen.name, str(bundle.path), chosen.runtime, count)
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    parts: list[_Second] = []
    stopped = ""
    before = thermal()
    with Worker(spec) as worker:
        try:
            _load(worker, seconds, parts, tell)
        except KeyboardInterrupt:
            stopped = "interrupted"
        except ModelError as error:
            stopped = str(error)
    if not parts and stopped == "interrupted":
        raise KeyboardInterrupt
    if not parts:
        raise ModelError(f"{chosen.name}: {stopped}")
    starts = [start for part in parts for start in part.starts]
    samples = [ms for part in parts for ms in part.samples_ms]
    moments = [part.moment for part in parts]
    during = [Thermal(m.temperature_c, m.clock_mhz, m.throttled) for m in moments]
    held_back = why_invalid(before, during, during[-1])
    end = starts[-1] + samples[-1] / 1e3
    slowdown = _slowdown(starts, samples, end)
    run = Sustained(
        schema_version=SCHEMA_VERSION,
        kind=SUSTAINED_KIND,
        intended_use=INTENDED_USE,
        created=begun,
        bundle=bundle.name,
        bundle_digest=bundle_digest(bundle.path),
        machine=machine(),
        artifact=chosen.name,
        threads=count,
        wanted_s=seconds,
        stopped=stopped,
        slowdown=slowdown,
        held_back=held_back,
        verdict=verdict(slowdown, held_back, moments),
        whole=_window(0.0, end, samples),
        windows=windows(starts, samples, end),
        moments=tuple(moments),
    )
    write_sustained(run, out)
    return run


@dataclass(frozen=True)
class _Second:
    """About a second of work: when its frames began, in seconds, how long they took, and the machine after it."""

    starts: list[float]
    samples_ms: list[float]
    moment: Moment


def _load(worker: Asked, seconds: float, parts: list[_Second], tell: Tell) -> None:
    """Keep the worker busy and append second by second, each in one step: Ctrl-C can come anywhere."""
    begun = perf_counter()
    while (at := perf_counter() - begun) < seconds:
        answer = worker.ask(do="time", queries=1, seconds=min(1.0, seconds - at))
        gone, state = perf_counter() - begun, thermal()
        samples: list[float] = answer["samples_ms"]
        left = np.cumsum(samples[::-1])[::-1]
        moment = Moment(
            round(gone, 2), state.temperature_c, state.clock_mhz, state.throttled, memory_bytes("MemAvailable"),
            answer["peak_bytes"],
        )  # fmt: skip
        parts.append(_Second((gone - left / 1e3).tolist(), samples, moment))
        tell(gone, float(np.median(samples)), moment)


def windows(starts: list[float], samples: list[float], end: float) -> tuple[Window, ...]:
    """Windows of the same length, at least a second, from frames' starts (s) and times (ms).

    At most `WINDOWS`, and more than ten only if each then holds enough frames for a p90.
    """
    count = max(1, min(WINDOWS, int(end), max(10, len(samples) // 30)))
    edges = [end * i / count for i in range(count + 1)]
    places = np.clip((np.asarray(starts) / end * count).astype(int), 0, count - 1)
    values = np.asarray(samples)
    parts = [(edges[i], edges[i + 1], values[places == i]) for i in range(count)]
    return tuple(_window(low, high, part.tolist()) for low, high, part in parts if len(part))


def _window(start: float, end: float, samples: list[float]) -> Window:
    found = percentiles([ms / 1e3 for ms in samples])
    return Window(round(start, 2), round(end, 2), found.runs, found.p50_ms, found.p90_ms, found.p99_ms)


def _slowdown(starts: list[float], samples: list[float], end: float) -> float | None:
    times, values = np.asarray(starts), np.asarray(samples)
    first, last = values[times < 0.1 * end], values[times >= 0.9 * end]
    if min(len(first), len(last)) < _FEWEST_FRAMES:
        return None
    return round(float(np.median(last) / np.median(first)), 3)


def verdict(slowdown: float | None, held_back: str | None, moments: list[Moment]) -> str:
    """One sentence: did it keep its speed, and at which temperature and clock?"""
    if slowdown is None:
        words = "Too few frames to tell whether it keeps its speed: run it for longer"
    else:
        words = "It slowed down" if slowdown > SLOWER else "It kept its speed"
        words += f": a frame of the last tenth took {slowdown:.2f} times as long as one of the first"
    if held_back:
        words += f"; {held_back}"
    for values, unit in (
        ([m.temperature_c for m in moments], "°C"),
        ([m.clock_mhz for m in moments], "MHz"),
    ):
        if known := [value for value in values if value is not None]:
            words += f"; {known[0]:.0f} to {known[-1]:.0f} {unit}"
    return f"{words}."
