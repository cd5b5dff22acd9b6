"""From a bundle to candidates, and from measurements to a `Run`. edge_runtime and NumPy only."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import machine, thermal, why_invalid
from benchmarks.heatmaps import agreement, gallery, shown_maps
from benchmarks.measuring import MODES, ROUNDS, Bar, Journal, Measured, Planned, fits_in_memory, measure_all
from benchmarks.records import read_record, to_plain
from benchmarks.runfile import RUN_KIND, SCHEMA_VERSION, Candidate, Data, Picture, Protocol, Run, Thermal
from benchmarks.worker import Spec
from edge_runtime.backends import default_threads, is_available
from edge_runtime.bundle import INTENDED_USE, Artifact, Bundle
from edge_runtime.cascade import CASCADE, first_bundle
from edge_runtime.classifier import EXTRA_OF_RUNTIME
from edge_runtime.errors import MissingExtraError, ModelError, UsageError
from edge_runtime.files import sha256_file
from edge_runtime.flatbuffer import check_tflite
from edge_runtime.sums import SUMS


def artifact_candidates(bundle: Bundle, names: Sequence[str] | None, threads: int) -> list[Planned]:
    """Each artifact, and the bare interpreter on the same file, next to each other.

    Without ``names``, artifacts whose interpreter is not installed are left out with a note.

    Raises:
        UsageError: no such artifact.
        MissingExtraError: a named artifact has no interpreter here, or none has.
    """
    planned: list[Planned] = []
    chosen = [bundle.artifact(name) for name in names if name != CASCADE] if names else bundle.artifacts
    for artifact in chosen:
        if not is_available(artifact.runtime):
            missing = MissingExtraError(
                f"An interpreter for {artifact.runtime}", EXTRA_OF_RUNTIME[artifact.runtime]
            )
            if names:
                raise missing
            print(f"note: {artifact.name} left out: {missing}", file=sys.stderr)
            continue
        spec = Spec("artifact", "", artifact.name, str(bundle.path), artifact.runtime, threads)
        macs, int8_macs = multiply_adds(bundle, artifact)
        planned.append(
            Planned(
                artifact.name, "artifact", artifact.runtime, artifact.precision, artifact.size_bytes,
                artifact.threshold, spec, scores=True, swept=True, macs=macs, int8_macs=int8_macs,
            )
        )  # fmt: skip
        planned.append(
            Planned(
                f"{artifact.name}, bare", "bare", artifact.runtime, artifact.precision,
                backbone_bytes(bundle, artifact), artifact.threshold,
                Spec("bare", "", artifact.name, str(bundle.path), artifact.runtime, threads), of=artifact.name,
                note="the interpreter's own invoke on the same backbone file, without the head",
            )
        )  # fmt: skip
    if bundle.cascade is not None and (not names or CASCADE in names):
        planned += _cascade(bundle, threads)
    elif names and CASCADE in names:
        raise UsageError(f"The bundle {bundle.path} holds no cascade.")
    if not planned:
        raise MissingExtraError("An interpreter for this bundle", EXTRA_OF_RUNTIME[bundle.artifacts[0].runtime])
    return planned


def _cascade(bundle: Bundle, threads: int) -> list[Planned]:
    """Both models of a cascade as one candidate; nothing, with a note, where one of them cannot run here."""
    assert bundle.cascade is not None
    first = first_bundle(bundle)
    parts = first.artifact(bundle.cascade.first_artifact), bundle.artifact(bundle.cascade.full_artifact)
    for part in parts:
        if not is_available(part.runtime):
            missing = MissingExtraError(f"An interpreter for {part.runtime}", EXTRA_OF_RUNTIME[part.runtime])
            print(f"note: the {CASCADE} left out: {missing}", file=sys.stderr)
            return []
    cheap, full = parts
    spec = Spec(CASCADE, "", CASCADE, str(bundle.path), full.runtime, threads)
    note = f"{first.name} {cheap.name} first, {full.name} where that is not sure"
    return [
        Planned(
            CASCADE, "artifact", full.runtime, CASCADE, cheap.size_bytes + full.size_bytes, full.threshold, spec,
            note=note, scores=True, swept=True,
        )
    ]  # fmt: skip


def multiply_adds(bundle: Bundle, artifact: Artifact) -> tuple[int | None, int | None]:
    """Multiply-adds of the backbone, and those of them with integer inputs; None where the format does not tell."""
    if artifact.runtime != "tflite":
        return None, None
    try:
        found = check_tflite((bundle.path / artifact.backbone).read_bytes(), artifact.backbone)
    except ModelError:
        return None, None  # the artifact's own row will say why
    return found.macs, found.int8_macs


def escalated_share(bundle: Bundle) -> float:
    """The share of images for which a bundle's cascade asks its full model, as measured when it was fitted.

    On test images where there were some, else on validation images; 1, the worst, where nothing was written down.
    """
    metrics: Mapping[str, Any] = bundle.cascade.metrics if bundle.cascade else {}
    for subset in ("test", "validation"):
        share = metrics[subset].get("escalated") if isinstance(metrics.get(subset), dict) else None
        if isinstance(share, (int, float)) and 0 <= share <= 1:
            return float(share)
    return 1.0


def backbone_bytes(bundle: Bundle, artifact: Artifact) -> int:
    """Size of the backbone: for OpenVINO two files, the graph and its weights."""
    path = bundle.path / artifact.backbone
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))


def make_protocol(mode: str, threads: int, planned: Sequence[Planned]) -> Protocol | None:
    """The latency protocol of a mode; None for ``none``.

    Raises:
        UsageError: an unknown mode.
    """
    if mode == "none":
        return None
    if mode not in MODES:
        raise UsageError(f"--mode must be one of {', '.join(MODES)}, none. Received: {mode}.")
    queries, seconds = MODES[mode]
    return Protocol(mode, queries, seconds, ROUNDS, threads, fits_in_memory(planned))


def thread_counts(threads: int, cores: int) -> list[int]:
    """The powers of two up to the cores, and the cores themselves, without the number that is measured anyway."""
    counts = {cores, *(2**i for i in range(cores.bit_length()) if 2**i <= cores)}
    return sorted(counts - {threads})


def checked_threads(threads: int | None) -> int:
    """The default where None; `UsageError` below one."""
    if threads is not None and threads < 1:
        raise UsageError(f"--threads must be at least 1. Received: {threads}.")
    return threads or default_threads()


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
) -> Run:
    """Measure everything and put it together.

    Args:
        images: files, in the order of ``data.images``; without ``data`` they only give the time of each stage.
        reference: candidate that the others are compared with.
        pictures: of the gallery; 0: none, and no image leaves the data folder.
    """
    here = machine()
    # Of the run's first start: what happened before an interruption counts too.
    before = read_record(Thermal, journal.step("thermal state", lambda: to_plain(thermal())), "thermal state")
    sweep = thread_counts(protocol.threads, here.cores) if protocol else []
    results, moments = measure_all(planned, images, protocol, sweep, journal, bar)
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
        bundle_digest=sha256_file(bundle.path / SUMS)[:16],
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
        ladders={a.name: a.metrics["ladder"] for a in bundle.artifacts if a.metrics.get("ladder")},
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
            # Generated images say nothing about how often: without real ones, what the bundle says.
            escalated = found.escalated if scored and found.escalated is not None else escalated_share(bundle)
            macs, int8_macs = _average_macs(bundle, escalated)
            p = replace(p, macs=macs, int8_macs=int8_macs)
        rows.append(_candidate(p, found, scored, heat.get(p.name), escalated))
    return tuple(rows)


def _average_macs(bundle: Bundle, escalated: float) -> tuple[int | None, int | None]:
    assert bundle.cascade is not None
    first = first_bundle(bundle)
    cheap = multiply_adds(first, first.artifact(bundle.cascade.first_artifact))
    full = multiply_adds(bundle, bundle.artifact(bundle.cascade.full_artifact))
    macs, int8_macs = (
        None if a is None or b is None else round(a + escalated * b) for a, b in zip(cheap, full, strict=True)
    )
    return macs, int8_macs


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
