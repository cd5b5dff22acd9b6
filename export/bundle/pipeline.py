"""The export pipeline: model -> split -> formats -> bundle -> replay; published only if every check passes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from sonoedge.edge_runtime.bundle.contract import (
    GATE_FILE,
    GOLDEN,
    MANIFEST,
    MODEL_CARD,
    SBOM,
    Artifact,
    Bundle,
    Decision,
    InputSpec,
)
from sonoedge.edge_runtime.bundle.freshness import dated
from sonoedge.edge_runtime.bundle.manifest import load_bundle, write_manifest
from sonoedge.edge_runtime.bundle.trust import without_policy
from sonoedge.edge_runtime.device.agreement import ANSWERS
from sonoedge.edge_runtime.device.replay import load_golden, replay, run_golden
from sonoedge.edge_runtime.errors import VerificationError
from sonoedge.edge_runtime.files import write_bytes_atomic, write_text_atomic
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.gate import load_gate
from sonoedge.edge_runtime.types import Float32Array
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.export.bundle.golden import check_maps, golden_images, pack, reference, tolerances
from sonoedge.export.bundle.limits import Limits, keep_within
from sonoedge.export.bundle.model_card import model_card
from sonoedge.export.bundle.sbom import sbom
from sonoedge.export.convert.splitting import SplitModel
from sonoedge.export.formats import FORMATS, ExportFormat, Source
from sonoedge.export.gate.fit import make_gate, write_gate
from sonoedge.export.gate.images import GateImages
from sonoedge.export.guard.candidate_table import promise
from sonoedge.export.guard.int8 import Int8Policy, measure_written, write_int8
from sonoedge.export.quantize.calibration import CalibrationSet
from sonoedge.train.data.split import SUBSETS, subset_of
from sonoedge.train.evaluation.run_folder import Run, versions
from sonoedge.train.features.cache import default_cache
from sonoedge.train.folders import atomic_directory
from sonoedge.train.records.reader import plain
from sonoedge.train.terminal import LOG

DIGEST_DIGITS = 16
"""Digits of an image's SHA-256 in the bundle's list of the images that the model has seen."""


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Attributes:
        model: in two parts.
        labels: class names, the positive one last.
        formats: rows of `export.formats.FORMATS`.
        name: of the bundle.
        threshold: probability threshold of the full model.
        run: that the model comes from; None for a bare model.
        calibration: images for int8 formats.
        calibration_seed: with which they were drawn.
        int8: how int8 files are made.
        cache: folder of what quantization caches; None: the default folder.
        gate: images that the out-of-domain gate is fitted to; None leaves the gate out.
        features: folder of `train.features.cache`; None: the default folder.
        limits: what an artifact may cost here; None for no limits.
    """

    model: SplitModel
    labels: tuple[str, ...]
    formats: Sequence[ExportFormat]
    name: str
    threshold: float
    run: Run | None = None
    calibration: CalibrationSet | None = None
    calibration_seed: int = 0
    int8: Int8Policy = field(default_factory=Int8Policy)
    cache: Path | None = None
    gate: GateImages | None = None
    features: Path | None = None
    limits: Limits | None = None


def export_bundle(request: ExportRequest, out: Path, *, progress: bool) -> Bundle:
    """Write a bundle and verify it by reloading every artifact through edge_runtime.

    Args:
        request: what to export.
        out: folder to create; an older bundle is replaced.
        progress: show bars.

    Raises:
        AccuracyError, LimitError: no file fits; see `write_int8` and `export.bundle.limits.keep_within`.
        ModelError: a format cannot express the model.
        UsageError: ``out`` holds something else, or the formats need images that are not there.
        VerificationError: an artifact does not agree with Keras; nothing is published.
    """
    with atomic_directory(out, marker=MANIFEST) as folder, tempfile.TemporaryDirectory() as scratch:
        cache = request.cache or default_cache().with_name("quantized")
        source = Source(request.model, request.calibration, Path(scratch), cache, progress=progress)
        artifacts = []
        seen: dict[str, dict[str, Float32Array]] = {}
        for number, row in enumerate(request.formats, start=1):
            started = perf_counter()
            artifact, features = write_artifact(source, row, folder, request, Path(scratch), progress=progress)
            artifacts.append(artifact)
            seen[row.name] = features
            LOG.info(
                f"[{number}/{len(request.formats)}] {row.name:<15} {artifact.size_bytes / 1e6:7.1f} MB  "
                f"{perf_counter() - started:6.1f} s"
            )
        provenance = _provenance(request)
        if request.limits is not None:
            choice = keep_within(request.limits, folder, artifacts, request.model.input_size)
            LOG.info("\n".join(choice.lines()))
            artifacts, provenance["limits"] = list(choice.artifacts), choice.to_json()
        bundle = Bundle(
            path=folder,
            name=request.name,
            labels=request.labels,
            decision=Decision("threshold", request.labels[-1]),
            input=InputSpec(*request.model.input_size),
            branches=request.model.head.branches,
            artifacts=tuple(artifacts),
            provenance=provenance,
            intended_use=INTENDED_USE,
        )
        bundle = _write_golden(without_policy(dated(bundle)), request.model)
        if request.gate is not None:
            bundle = _write_gate(bundle, request, request.gate, seen, progress=progress)
        write_text_atomic(folder / MODEL_CARD, model_card(bundle, request.run.card if request.run else None))
        if request.int8.agreement is not None and request.int8.agreement.answers:
            write_text_atomic(folder / ANSWERS, request.int8.agreement.lines())
        write_text_atomic(folder / SBOM, sbom(bundle))
        write_manifest(bundle)
        _verify(folder, [FORMATS[a.name] for a in artifacts], gated=request.gate is not None)
        LOG.info(f"verified: {len(artifacts)} artifacts reloaded and replayed against the Keras model")
    return load_bundle(out)


def write_artifact(
    source: Source,
    row: ExportFormat,
    folder: Path,
    request: ExportRequest,
    scratch: Path,
    *,
    progress: bool,
) -> tuple[Artifact, dict[str, Float32Array]]:
    """Write backbone and head of one format under ``folder/<name>/``.

    Returns:
        The artifact, and the out-of-domain gate's features (C,) of the images that it has been run on, by digest of
        the image.
    """
    target = folder / row.name
    target.mkdir(parents=True)
    backbone, head = target / f"backbone{row.suffix}", target / f"head{row.suffix}"
    source.write_head(row.runtime, head)
    precision, threshold, dtype = row.precision, request.threshold, "float32"
    metrics, features = dict[str, Any](), dict[str, Float32Array]()
    if row.write_backbone is not None:
        recipe = row.write_backbone(source, backbone)
        if row.is_measured and request.int8.validation is not None:
            found = measure_written(source, row.runtime, backbone, head, request.int8, threshold, scratch)
            threshold = found.comparison.threshold if found.comparison else threshold
            metrics["validation"] = found.to_json(request.int8.budget)
            metrics["promise"] = promise(found, request.int8.budget)
        elif row.is_measured:
            metrics["promise"] = promise(None, request.int8.budget)
    else:
        choice = write_int8(
            source, row.runtime, backbone, head, request.int8, request.threshold, scratch, progress=progress
        )
        recipe, precision, threshold = choice.recipe.to_json(), choice.recipe.precision, choice.threshold
        features, dtype = choice.features or {}, choice.dtype
        metrics["promise"] = promise(choice.candidate, request.int8.budget)
        if choice.candidate is not None:
            metrics["validation"] = choice.candidate.to_json(request.int8.budget)
        metrics["calibration"] = choice.activations
        if choice.target is not None:
            metrics["target"] = choice.target
        if choice.table is not None:
            metrics["candidates"] = [c.to_json(request.int8.budget) for c in choice.table.candidates]
    artifact = Artifact(
        name=row.name,
        runtime=row.runtime,
        precision=precision,
        recipe=recipe,
        backbone=f"{row.name}/backbone{row.suffix}",
        head=f"{row.name}/head{row.suffix}",
        size_bytes=sum(path.stat().st_size for path in target.iterdir()),
        threshold=threshold,
        metrics=metrics,
        input_dtype=dtype,
        output_dtype=dtype,
    )
    return artifact, features


def _write_golden(bundle: Bundle, model: SplitModel) -> Bundle:
    """Write golden.npz from Keras and from every artifact as it runs here; returns the bundle with their errors."""
    images = golden_images()
    logits, cams = reference(model, images)
    arrays: dict[str, Any] = {f"image_{i}": image for i, image in enumerate(images)}
    arrays |= {"reference_logit": logits, "reference_cam": cams}
    artifacts = []
    for artifact in bundle.artifacts:
        own_logits, own_cams = run_golden(Classifier(bundle, artifact.name), images)
        arrays |= {f"{artifact.name}.logit": own_logits, f"{artifact.name}.cam": own_cams}
        arrays[f"{artifact.name}.tolerance"] = tolerances(artifact.precision, own_logits, logits)
        errors = {
            "golden_logit_error": round(float(np.abs(own_logits - logits).max()), 7),
            "golden_map_error": round(check_maps(artifact.name, artifact.precision, own_cams, cams), 7),
        }
        artifacts.append(replace(artifact, metrics={**artifact.metrics, **errors}))
    write_bytes_atomic(bundle.path / GOLDEN, pack(arrays))
    return replace(bundle, artifacts=tuple(artifacts))


def _write_gate(
    bundle: Bundle,
    request: ExportRequest,
    images: GateImages,
    seen: Mapping[str, Mapping[str, Float32Array]],
    *,
    progress: bool,
) -> Bundle:
    """Write domain.npz; returns the bundle with what the model card says about it."""
    started = perf_counter()
    cache = request.features or default_cache()
    fitted = make_gate(bundle, request.model, images, cache=cache, seen=seen, progress=progress)
    write_gate(bundle, fitted)
    measured = fitted.facts["rates"].get("test") or fitted.facts["rates"]["validation"]
    LOG.info(
        f"out-of-domain gate: {measured['refused']:.1%} of {measured['images']} "
        f"{'test' if 'test' in fitted.facts['rates'] else 'validation'} images refused, "
        f"{measured['flagged']:.1%} flagged  {perf_counter() - started:6.1f} s"
    )
    return replace(bundle, provenance={**bundle.provenance, "gate": fitted.facts})


def _verify(folder: Path, formats: Sequence[ExportFormat], *, gated: bool) -> None:
    """Load from disk, check and replay, as the device will do; and check the tolerance of float formats."""
    bundle = without_policy(load_bundle(folder))
    golden = load_golden(bundle)
    scale = max(1.0, float(np.abs(golden["reference_logit"]).max()))
    for row in formats:
        if gated and load_gate(bundle, row.name) is None:
            raise VerificationError(f"{GATE_FILE} has no limits for {row.name}. Nothing was written.")
        result = replay(bundle, row.name, golden)
        limit = None if row.logit_tolerance is None else row.logit_tolerance * scale
        if not result.passed or (limit is not None and result.reference_error > limit):
            raise VerificationError(
                f"{row.name} deviates from the Keras model by {result.reference_error:.2e} in the logit "
                f"(allowed {limit or result.tolerance[1]:.1e}), from its own replay by {result.replay_error:.2e}, "
                f"and decides {result.changed} golden images otherwise. Nothing was written."
            )


def _provenance(request: ExportRequest) -> dict[str, Any]:
    calibration = request.calibration
    packages = ("sonoedge", "keras", "tensorflow", "ai-edge-litert", "litert-quantizer", "openvino", "nncf", "onnx")
    return {
        "training": None if request.run is None else _training(request.run),
        "calibration": calibration and calibration.provenance(request.calibration_seed),
        "versions": versions(*packages),
    }


_PLACES = {"data", "weights", "teacher", "groups", "sweep", "split"}
"""Settings of a run that may be paths."""


def _training(run: Run) -> dict[str, Any]:
    card = run.card
    # Paths say nothing to the receiver of a bundle, and may reveal too much.
    settings = {key: value for key, value in plain(card.settings).items() if key not in _PLACES}
    settings["split"] = run.split.strategy
    subsets: dict[str, list[str]] = {subset: [] for subset in SUBSETS}
    for digest, subset in sorted(subset_of(run.split).items()):
        subsets[subset].append(digest[:DIGEST_DIGITS])
    return {
        "settings": settings,
        "weights": dict(card.weights),
        "dataset_digest": card.dataset.digest,
        "images": card.dataset.images,
        "metrics": plain(card.metrics),
        # From these a benchmark knows which images the model has seen.
        "subsets": subsets,
    }
