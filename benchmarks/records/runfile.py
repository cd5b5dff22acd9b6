"""The measurement of one bundle on one machine, as one JSON file: raw figures, from which every report is computed.

Written by ``sonoedge benchmark`` and, on a device, by ``sonoedge benchmark --device-run``; read by
``sonoedge report``. Standard library and edge_runtime only. Units are in the names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.typed_json import read_record, read_typed_json, to_plain

SCHEMA_VERSION = 2
RUN_KIND = "sonoedge-benchmark-run"
REPORT_KIND = "sonoedge-benchmark-report"
AGAIN = "Measure again: sonoedge benchmark --bundle BUNDLE --data DATA --out REPORT."
REPORT = "report.json"
"""A folder with this file is a report folder."""
MODE = "rapid"
"""The latency protocol if nothing else is asked for; see `benchmarks.measure.candidates.MODES`."""


@dataclass(frozen=True)
class ImageRef:
    """One image: the start of its SHA-256, its class index, and the number of its group (patient)."""

    digest: str
    label: int
    group: int


@dataclass(frozen=True)
class Data:
    """The images that were scored; ``kind`` is ``test`` or ``external``; ``labels`` has the positive one last.

    ``digest`` identifies the set of images; ``notes`` say which files were left out.
    """

    name: str
    kind: str
    note: str
    notes: tuple[str, ...]
    labels: tuple[str, ...]
    digest: str
    images: tuple[ImageRef, ...]


@dataclass(frozen=True)
class Machine:
    """Where it ran. ``governor`` and ``memory_bytes`` are null where the system does not tell."""

    processor: str
    architecture: str
    system: str
    python: str
    cores: int
    memory_bytes: int | None
    governor: str | None
    versions: dict[str, str]


@dataclass(frozen=True)
class Thermal:
    """Temperature, clock and throttling at one moment; null where the machine does not tell.

    ``throttled`` holds the flags of the Raspberry Pi's firmware: bits 0–3 now, bits 16–19 since power-on.
    """

    temperature_c: float | None
    clock_mhz: float | None
    throttled: int | None


@dataclass(frozen=True)
class Protocol:
    """How latency was measured: single stream, at least this many queries and seconds for each candidate.

    ``interleaved`` is false if memory did not suffice to keep all candidates open at once.
    """

    mode: str
    min_queries: int
    min_seconds: float
    rounds: int
    threads: int
    interleaved: bool


@dataclass(frozen=True)
class Timing:
    """Wall-clock milliseconds of single queries, in order, and how many there were in each round."""

    threads: int
    samples_ms: tuple[float, ...]
    round_sizes: tuple[int, ...]


@dataclass(frozen=True)
class Candidate:
    """One thing measured. ``kind``: ``full`` (the Keras model), ``artifact``, ``bare`` (the interpreter without
    SonoEdge on the same file, ``of`` names the artifact) or ``peer`` (what you would pick instead).

    ``error`` says why the candidate could not be measured; everything that was not measured is null or empty.
    ``executed`` is what the interpreter said it ran. ``base_bytes`` is the memory of the process before the model
    was opened. ``logits`` and ``heatmap_cosine`` are in the order of the images. The cosine is with the heat map of
    `Run.heatmap_reference`, both for the class that the reference decides; null if only one map is zero. ``macs``
    are the multiply-adds of one inference, ``int8_macs`` those of them with integer inputs; null if the format does
    not tell. ``escalated`` is the share of images for which a cascade also asks its full model; null for all other
    candidates. A cascade's timings take turns: a frame that the cheap model decides, a frame that asks both models.
    """

    name: str
    kind: str
    of: str | None
    runtime: str
    precision: str
    note: str
    size_bytes: int
    threshold: float
    error: str | None
    executed: dict[str, Any]
    init_ms: float | None
    first_ms: float | None
    base_bytes: int | None
    peak_bytes: int | None
    timing: Timing | None
    thread_sweep: tuple[Timing, ...]
    stages_ms: dict[str, float]
    logits: tuple[float, ...] | None
    heatmap_cosine: tuple[float | None, ...] | None
    macs: int | None
    int8_macs: int | None
    escalated: float | None


@dataclass(frozen=True)
class Picture:
    """One image of the gallery with the heat maps of artifacts, as data URIs, and their probabilities."""

    caption: str
    image: str
    overlays: dict[str, str]
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Run:
    """One measurement; ``reference`` names the candidate that the others are compared with.

    ``invalid`` says why the timings do not count (a throttled processor); null if they count. ``ladders`` are the
    guard's candidates by artifact, as stored in the bundle.
    """

    schema_version: int
    kind: str
    intended_use: str
    created: str
    bundle: str
    bundle_digest: str
    machine: Machine
    protocol: Protocol | None
    thermal_before: Thermal
    thermal_after: Thermal
    invalid: str | None
    data: Data | None
    reference: str | None
    heatmap_reference: str | None
    candidates: tuple[Candidate, ...]
    gallery: tuple[Picture, ...]
    ladders: dict[str, Any]
    provenance: dict[str, Any]

    def candidate(self, name: str) -> Candidate:
        """The candidate of that name."""
        return next(candidate for candidate in self.candidates if candidate.name == name)


def write_run(run: Run, path: Path) -> None:
    """Write one run as JSON, atomically."""
    write_text_atomic(path, json.dumps(to_plain(run), allow_nan=False) + "\n")


def read_runs(path: Path) -> tuple[Run, ...]:
    """The runs of a run file or of a ``report.json``.

    Raises:
        DataError: the file is no benchmark file of this schema version, or its figures contradict each other.
    """
    kinds = (RUN_KIND, REPORT_KIND)
    body = read_typed_json(path, "benchmark file", kinds, SCHEMA_VERSION, AGAIN)
    bodies = [body] if body["kind"] == RUN_KIND else body.get("runs")
    if not isinstance(bodies, list) or not bodies:
        raise DataError(f"{path} holds no runs.")
    return tuple(parse_run(item, f"{path.name}: run {i}") for i, item in enumerate(bodies, start=1))


def parse_run(body: Any, where: str) -> Run:
    """Build a run from decoded JSON, and check it.

    Raises:
        DataError: see `read_runs`; the message starts with ``where``.
    """
    run = read_record(Run, body, where)
    if run.schema_version != SCHEMA_VERSION or run.kind != RUN_KIND:
        raise DataError(f"{where} is not a run of schema version {SCHEMA_VERSION}.")
    names = [candidate.name for candidate in run.candidates]
    if len(set(names)) != len(names) or not names:
        raise DataError(f"{where} needs candidates, each with a name of its own. Received: {names}.")
    for reference in (run.reference, run.heatmap_reference):
        if reference is not None and reference not in names:
            raise DataError(f"{where} has no candidate {reference!r}, its reference.")
    count = len(run.data.images) if run.data else 0
    if run.data is not None and (count == 0 or any(not 0 <= image.label <= 1 for image in run.data.images)):
        raise DataError(f"{where} needs images with labels 0 and 1.")
    for candidate in run.candidates:
        for series in (candidate.logits, candidate.heatmap_cosine):
            if series is not None and len(series) != count:
                raise DataError(f"{where}: {candidate.name} has {len(series)} results for {count} images.")
        if not 0 <= candidate.threshold <= 1:
            raise DataError(f"{where}: the threshold of {candidate.name} is no probability.")
        if candidate.escalated is not None and not 0 <= candidate.escalated <= 1:
            raise DataError(f"{where}: the escalated share of {candidate.name} is no share.")
        sizes = (
            candidate.size_bytes, candidate.base_bytes, candidate.peak_bytes, candidate.macs, candidate.int8_macs
        )  # fmt: skip
        if any(size is not None and size < 0 for size in sizes):
            raise DataError(f"{where}: {candidate.name} has a negative size.")
        for timing in (candidate.timing, *candidate.thread_sweep):
            if timing is not None:
                _check_timing(timing, f"{where}: the timing of {candidate.name}")
    return run


def _check_timing(timing: Timing, where: str) -> None:
    if not timing.samples_ms or sum(timing.round_sizes) != len(timing.samples_ms) or min(timing.round_sizes) < 0:
        raise DataError(f"{where} is empty or its rounds do not add up.")
    if min(timing.samples_ms) <= 0 or timing.threads < 1:
        raise DataError(f"{where} must be positive, with at least one thread.")
