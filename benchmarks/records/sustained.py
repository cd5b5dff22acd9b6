"""A sustained run: one artifact without a pause for minutes, as one JSON file. Units are in the names.

Written by ``sonoedge benchmark --sustained``, drawn by ``sonoedge report``. Standard library and edge_runtime only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sonoedge.benchmarks.records.runfile import Machine
from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.typed_json import read_record, read_typed_json, to_plain

SUSTAINED_KIND = "sonoedge-sustained-run"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Window:
    """Percentiles of the frames that began between two times; p90 needs 30 frames, p99 needs 300, else null."""

    start_s: float
    end_s: float
    frames: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Moment:
    """The machine once a second; null where it does not tell.

    ``throttled`` holds the flags of the Raspberry Pi's firmware: bits 0–3 now, bits 16–19 since power-on.
    ``available_bytes`` is what programs can get without swapping, ``peak_bytes`` the largest memory of the measured
    process so far.
    """

    at_s: float
    temperature_c: float | None
    clock_mhz: float | None
    throttled: int | None
    available_bytes: int | None
    peak_bytes: int | None


@dataclass(frozen=True)
class Sustained:
    """One artifact that computed frame after frame.

    ``stopped`` says why the run is shorter than ``wanted_s``; empty if it is not. ``slowdown`` is the median frame
    of the last tenth of the time over that of the first; null if a tenth holds too few frames. ``held_back`` are
    the firmware's words for a throttled processor; null if it reported nothing. ``verdict`` is one sentence.
    """

    schema_version: int
    kind: str
    intended_use: str
    created: str
    bundle: str
    bundle_digest: str
    machine: Machine
    artifact: str
    threads: int
    wanted_s: float
    stopped: str
    slowdown: float | None
    held_back: str | None
    verdict: str
    whole: Window
    windows: tuple[Window, ...]
    moments: tuple[Moment, ...]


def write_sustained(run: Sustained, path: Path) -> None:
    """Write one run as JSON, atomically."""
    write_text_atomic(path, json.dumps(to_plain(run), allow_nan=False) + "\n")


def is_sustained(path: Path) -> bool:
    """Whether a file says that it is a sustained run."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(body, dict) and body.get("kind") == SUSTAINED_KIND


def read_sustained(path: Path) -> Sustained:
    """Read and check a sustained run.

    Raises:
        DataError: the file is no sustained run of this schema version, or its figures contradict each other.
    """
    remedy = "Update sonoedge, or measure again."
    body = read_typed_json(path, "sustained run", (SUSTAINED_KIND,), SCHEMA_VERSION, remedy)
    run = read_record(Sustained, body, path.name)
    if not run.windows or not run.moments:
        raise DataError(f"{path} holds no windows or no moments.")
    for window in (run.whole, *run.windows):
        if not (0 <= window.start_s < window.end_s and window.frames > 0 and window.p50_ms > 0):
            raise DataError(f"{path}: a window must have a length and frames. Received: {window}.")
    return run
