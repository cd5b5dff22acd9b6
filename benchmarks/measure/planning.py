"""From a bundle to candidates and the protocol of their measurement. edge_runtime only."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sonoedge.benchmarks.measure.candidates import MODES, ROUNDS, Planned, fits_in_memory
from sonoedge.benchmarks.measure.opening import Spec
from sonoedge.benchmarks.records.runfile import Protocol
from sonoedge.edge_runtime.backends import default_threads, extra_of, is_available
from sonoedge.edge_runtime.backends.flatbuffer import check_tflite
from sonoedge.edge_runtime.bundle.contract import Artifact, Bundle
from sonoedge.edge_runtime.errors import MissingExtraError, ModelError, UsageError
from sonoedge.edge_runtime.model.cascade import CASCADE, first_bundle


def artifact_candidates(
    bundle: Bundle, names: Sequence[str] | None, threads: int, *, bare: bool = True
) -> list[Planned]:
    """Each artifact, followed by the bare interpreter on the same file; then the cascade, if there is one.

    Without ``names``, artifacts whose interpreter is not installed are left out with a note.

    Raises:
        UsageError: there is no such artifact, or no cascade.
        MissingExtraError: the interpreter of a named artifact, or of all artifacts, is not installed.
    """
    planned: list[Planned] = []
    chosen = [bundle.artifact(name) for name in names if name != CASCADE] if names else bundle.artifacts
    for artifact in chosen:
        if not is_available(artifact.runtime):
            missing = MissingExtraError(f"An interpreter for {artifact.runtime}", extra_of(artifact.runtime))
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
        if not bare:
            continue
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
        raise MissingExtraError("An interpreter for this bundle", extra_of(bundle.artifacts[0].runtime))
    return planned


def _cascade(bundle: Bundle, threads: int) -> list[Planned]:
    """Both models of a cascade as one candidate; empty, with a note, if one of them cannot run here."""
    assert bundle.cascade is not None
    first = first_bundle(bundle)
    parts = first.artifact(bundle.cascade.first_artifact), bundle.artifact(bundle.cascade.full_artifact)
    for part in parts:
        if not is_available(part.runtime):
            missing = MissingExtraError(f"An interpreter for {part.runtime}", extra_of(part.runtime))
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
    """Multiply-adds of the backbone, and those of them with integer inputs; None if the format does not tell."""
    if artifact.runtime != "tflite":
        return None, None
    try:
        found = check_tflite((bundle.path / artifact.backbone).read_bytes(), artifact.backbone)
    except ModelError:
        return None, None  # measuring the artifact will report the error
    return found.macs, found.int8_macs


def escalated_share(bundle: Bundle) -> float:
    """The share of images, 0–1, for which a bundle's cascade asks its full model, as measured when it was fitted.

    The share on test images, else on validation images; 1, the worst case, if the bundle states neither.
    """
    metrics: Mapping[str, Any] = bundle.cascade.metrics if bundle.cascade else {}
    for subset in ("test", "validation"):
        share = metrics[subset].get("escalated") if isinstance(metrics.get(subset), dict) else None
        if isinstance(share, (int, float)) and 0 <= share <= 1:
            return float(share)
    return 1.0


def backbone_bytes(bundle: Bundle, artifact: Artifact) -> int:
    """Bytes of the backbone's files; OpenVINO has two, the graph and its weights."""
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
    """The powers of two up to ``cores``, and ``cores`` itself, without ``threads``, which is measured anyway."""
    counts = {cores, *(2**i for i in range(cores.bit_length()) if 2**i <= cores)}
    return sorted(counts - {threads})


def checked_threads(threads: int | None) -> int:
    """The number of threads; None takes `edge_runtime.backends.default_threads`.

    Raises:
        UsageError: below one.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"--threads must be at least 1. Received: {threads}.")
    return threads or default_threads()


def average_macs(bundle: Bundle, escalated: float) -> tuple[int | None, int | None]:
    """`multiply_adds` of a cascade's average image, if the share ``escalated`` (0–1) of images asks both models."""
    assert bundle.cascade is not None
    first = first_bundle(bundle)
    cheap = multiply_adds(first, first.artifact(bundle.cascade.first_artifact))
    full = multiply_adds(bundle, bundle.artifact(bundle.cascade.full_artifact))
    macs, int8_macs = (
        None if a is None or b is None else round(a + escalated * b) for a, b in zip(cheap, full, strict=True)
    )
    return macs, int8_macs
