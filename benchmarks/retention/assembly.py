"""From measurements to a `Run`. edge_runtime and NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sonoedge.benchmarks.measure.candidates import Bar, Measured, Planned, measure_all
from sonoedge.benchmarks.measure.environment import machine, thermal, why_invalid
from sonoedge.benchmarks.measure.planning import average_macs, escalated_share, thread_counts
from sonoedge.benchmarks.records.journal import Journal
from sonoedge.benchmarks.records.runfile import (
    RUN_KIND,
    SCHEMA_VERSION,
    Candidate,
    Data,
    Picture,
    Protocol,
    Run,
    Thermal,
)
from sonoedge.benchmarks.retention.heatmaps import agreement, gallery, shown_maps
from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.model.cascade import CASCADE
from sonoedge.edge_runtime.typed_json import read_record, to_plain
from sonoedge.edge_runtime.words import INTENDED_USE


def run_benchmark(
    bundle: Bundle,
    planned: Sequence[Planned],
    images: Sequence[Path],
    data: Data | None,
    protocol: Protocol | None,
    reference: str | None,
    provenance: Mapping[str, Any],
    journal: Journal,
    bar: Bar,
    *,
    pictures: int = 6,
    swept: bool = True,
) -> Run:
    """Measure all candidates and put the results together.

    Args:
        bundle: of the candidates.
        planned: candidates.
        images: files, in the order of ``data.images``; without ``data`` they only give the time of each stage.
        data: description of the images; None for images without labels.
        protocol: of the latency part; None leaves it out.
        reference: name of the candidate with which the others are compared; None for none.
        provenance: for the run file.
        journal: keeps finished steps.
        bar: shows progress.
        pictures: number of pictures in the gallery; with 0 the run file holds no image.
        swept: also time other numbers of threads.
    """
    here = machine()
    # The state at the first start of the run: throttling before an interruption counts, too.
    before = read_record(Thermal, journal.step("thermal state", lambda: to_plain(thermal())), "thermal state")
    sweep = thread_counts(protocol.threads, here.cores) if protocol and swept else []
    results, moments = measure_all(planned, images, protocol, sweep, journal, bar, scored=data is not None)
    after = thermal()
    if reference is not None and results[reference].error:
        reference = None
    compared: str | None = None
    shown: tuple[Picture, ...] = ()
    heat: dict[str, list[float | None]] = {}
    if data is not None:
        compared = next((p.name for p in planned if p.precision == "fp32" and results[p.name].cams), None)
        if compared is not None:
            heat, shown = _heat(planned, results, compared, reference, images, data, pictures)
    return Run(
        schema_version=SCHEMA_VERSION,
        kind=RUN_KIND,
        intended_use=INTENDED_USE,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=bundle.name,
        bundle_digest=bundle_digest(bundle.path)[:16],
        machine=here,
        protocol=protocol,
        thermal_before=before,
        thermal_after=after,
        invalid=why_invalid(before, moments, after),
        data=data,
        reference=reference,
        heatmap_reference=compared,
        candidates=_candidates(bundle, planned, results, heat, scored=data is not None),
        gallery=shown,
        ladders={a.name: a.metrics["candidates"] for a in bundle.artifacts if a.metrics.get("candidates")},
        provenance=dict(provenance),
    )


def _candidates(
    bundle: Bundle,
    planned: Sequence[Planned],
    results: Mapping[str, Measured],
    heat: Mapping[str, list[float | None]],
    *,
    scored: bool,
) -> tuple[Candidate, ...]:
    rows = []
    for p in planned:
        found, escalated = results[p.name], None
        if p.name == CASCADE:
            # Generated images do not show how often the full model is asked: then the bundle's figure counts.
            escalated = found.escalated if scored and found.escalated is not None else escalated_share(bundle)
            macs, int8_macs = average_macs(bundle, escalated)
            p = replace(p, macs=macs, int8_macs=int8_macs)
        rows.append(_candidate(p, found, scored, heat.get(p.name), escalated))
    return tuple(rows)


def _candidate(
    p: Planned, found: Measured, scored: bool, heat: list[float | None] | None, escalated: float | None
) -> Candidate:
    opened = found.opened
    return Candidate(
        name=p.name,
        kind=p.kind,
        of=p.of,
        runtime=p.runtime,
        precision=p.precision,
        note=p.note,
        size_bytes=p.size_bytes,
        threshold=p.threshold,
        error=found.error,
        executed=opened.get("executed", {}),
        init_ms=_rounded(opened.get("init_ms")),
        first_ms=_rounded(opened.get("first_ms")),
        base_bytes=opened.get("base_bytes"),
        peak_bytes=opened.get("peak_bytes"),
        timing=found.timing,
        thread_sweep=tuple(found.sweep),
        stages_ms={name: round(value, 3) for name, value in found.stages_ms.items()},
        logits=tuple(found.logits) if scored and found.logits is not None else None,
        heatmap_cosine=tuple(heat) if heat is not None else None,
        macs=p.macs,
        int8_macs=p.int8_macs,
        escalated=escalated,
    )


def _heat(
    planned: Sequence[Planned],
    results: Mapping[str, Measured],
    compared: str,
    reference: str | None,
    images: Sequence[Path],
    data: Data,
    pictures: int,
) -> tuple[dict[str, list[float | None]], tuple[Picture, ...]]:
    thresholds = {p.name: p.threshold for p in planned}
    probability = {
        name: 1 / (1 + np.exp(-np.asarray(found.logits, np.float64)))
        for name, found in results.items()
        if found.logits is not None
    }
    truth = reference or compared
    positive = [bool(decided) for decided in probability[truth] >= thresholds[truth]]
    maps = {name: shown_maps(found.cams, positive) for name, found in results.items() if found.cams}
    heat = {name: agreement(maps[compared], own) for name, own in maps.items()}
    small = [p.name for p in planned if p.kind == "artifact" and p.name in maps and p.precision not in _FLOAT]
    if not pictures:
        return heat, ()
    columns = [compared, *small]
    labels = [data.labels[image.label] for image in data.images]
    chosen = {name: maps[name] for name in columns}
    own = {name: probability[name] for name in columns}
    return heat, gallery(images, labels, chosen, own, heat[small[0] if small else compared], count=pictures)


_FLOAT = {"fp32", "fp16", "dynamic"}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
