"""Reading and writing bundle.json: every key and type is checked."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import NoneType
from typing import Any

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, check_digests, check_path, digests_text
from sonoedge.edge_runtime.bundle.contract import (
    DTYPES,
    GATE_FILE,
    MANIFEST,
    READ_VERSIONS,
    REASONS,
    RESIZE_RULE,
    RUNTIMES,
    SCHEMA_VERSION,
    SITE_VALUES,
    Artifact,
    Branch,
    Bundle,
    CascadeSpec,
    Decision,
    InputSpec,
)
from sonoedge.edge_runtime.bundle.fields import record
from sonoedge.edge_runtime.bundle.schema_1 import as_schema_2
from sonoedge.edge_runtime.errors import BundleError
from sonoedge.edge_runtime.files import write_text_atomic

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def write_manifest(bundle: Bundle) -> None:
    """Write ``bundle.json``, then ``SHA256SUMS`` over all files in ``bundle.path``.

    Raises:
        BundleError: the folder holds a link.
    """
    gate = GATE_FILE if (bundle.path / GATE_FILE).is_file() else None
    body = {"schema_version": SCHEMA_VERSION, **asdict(replace(bundle, gate=gate, schema_version=SCHEMA_VERSION))}
    del body["path"], body["policy_checked"], body["site"]
    write_text_atomic(
        bundle.path / MANIFEST, json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )
    write_text_atomic(bundle.path / SHA256SUMS, digests_text(bundle.path))


def load_bundle(path: str | Path) -> Bundle:
    """Read and check a bundle: digests of all files, then the schema of bundle.json.

    ``path`` may be a link to the bundle, such as ``current`` of `sonoedge install`. It is followed once: whoever
    has loaded a bundle stays with its files, even if the link then moves. Links inside a bundle are refused.

    Raises:
        BundleError: the folder is no sound bundle; the message says what is wrong, and in which file.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise BundleError(f"No such bundle folder: {folder}")
    if folder.is_symlink():
        folder = folder.resolve()
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder} is not a bundle: it holds no {MANIFEST}.")
    check_digests(folder)
    return read_manifest(folder)


def read_manifest(folder: Path) -> Bundle:
    """Read and check bundle.json alone; `load_bundle` also checks the digests.

    Raises:
        BundleError: see `decode_manifest`; or a model file is missing.
    """
    bundle = decode_manifest((folder / MANIFEST).read_bytes(), folder)
    named = [name for artifact in bundle.artifacts for name in (artifact.backbone, artifact.head)]
    for name in [*named, *filter(None, [bundle.gate])]:
        if not (folder / name).is_file():
            raise BundleError(f"{MANIFEST} names {name}, which the bundle does not hold.")
    if bundle.gate is None and (folder / GATE_FILE).exists():
        raise BundleError(f"The bundle holds {GATE_FILE}, which {MANIFEST} does not name.")
    return bundle


def decode_manifest(data: bytes, folder: Path) -> Bundle:
    """Build a `Bundle` from the bytes of bundle.json.

    Raises:
        BundleError: see `parse_manifest`; or the bytes are not JSON.
    """
    try:
        body = json.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        # ValueError: not UTF-8, not JSON, or a number of thousands of digits.
        raise BundleError(f"{MANIFEST} is not valid JSON: {error}") from error
    return parse_manifest(body, folder)


def parse_manifest(body: Any, folder: Path) -> Bundle:
    """Build a `Bundle` from decoded JSON.

    Raises:
        BundleError: an unknown or missing key, a wrong type, a value out of range, or another schema version.
    """
    version = body.get("schema_version") if isinstance(body, dict) else None
    if isinstance(version, int) and not isinstance(version, bool) and version not in READ_VERSIONS:
        known = " and ".join(map(str, READ_VERSIONS))
        raise BundleError(
            f"bundle.json has schema_version {version}; this version reads {known}. "
            "Update sonoedge on this machine, or export the bundle again."
        )
    if version == 1 and version is not True:
        body = as_schema_2(body, gate=(folder / GATE_FILE).exists())
    top = record(
        body,
        MANIFEST,
        schema_version=int,
        name=str,
        labels=list,
        decision=dict,
        reasons=list,
        input=dict,
        branches=list,
        artifacts=list,
        gate=(str, NoneType),
        lesion_map=object,
        site_overlay=list,
        cascade=(dict, NoneType),
        provenance=dict,
        intended_use=str,
    )
    labels = tuple(top["labels"])
    if not all(isinstance(x, str) and x for x in labels) or len(set(labels)) != len(labels) or len(labels) < 2:
        raise BundleError(f"labels must be at least two different names. Received: {top['labels']!r}.")
    bundle = Bundle(
        path=folder,
        name=top["name"],
        labels=labels,
        decision=_parse_decision(top["decision"], labels),
        input=_parse_input(top["input"]),
        branches=tuple(_parse_branch(item, f"branches[{i}]") for i, item in enumerate(top["branches"])),
        artifacts=tuple(_parse_artifact(item, f"artifacts[{i}]") for i, item in enumerate(top["artifacts"])),
        provenance=top["provenance"],
        intended_use=top["intended_use"],
        cascade=None if top["cascade"] is None else _parse_cascade(top["cascade"]),
        gate=top["gate"],
        reasons=tuple(top["reasons"]),
        site_overlay=tuple(top["site_overlay"]),
        schema_version=READ_VERSIONS[0] if version == READ_VERSIONS[0] else SCHEMA_VERSION,
    )
    if bundle.reasons != REASONS:
        raise BundleError(f"reasons must be {list(REASONS)} for this version. Received: {top['reasons']!r}.")
    if top["lesion_map"] is not None:
        raise BundleError("This version draws no lesion maps: lesion_map must be null. Update sonoedge.")
    if [value for value in SITE_VALUES if value in bundle.site_overlay] != top["site_overlay"]:
        raise BundleError(
            f"site_overlay must be some of {list(SITE_VALUES)}, sorted. Received: {top['site_overlay']}."
        )
    if bundle.gate not in (None, GATE_FILE):
        raise BundleError(f"gate must be {GATE_FILE!r} or null. Received: {bundle.gate!r}.")
    for what, names in (
        ("artifact", [a.name for a in bundle.artifacts]),
        ("branch", [b.name for b in bundle.branches]),
    ):
        if not names or len(set(names)) != len(names):
            raise BundleError(f"bundle.json needs at least one {what}, each with a name of its own: {names}.")
    if bundle.cascade and bundle.cascade.full_artifact not in {a.name for a in bundle.artifacts}:
        raise BundleError(f"cascade.full_artifact {bundle.cascade.full_artifact!r} is none of the artifacts.")
    return bundle


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _parse_decision(body: Any, labels: tuple[str, ...]) -> Decision:
    decision = Decision(**record(body, "decision", rule=str, label=str))
    if decision.rule != "threshold":
        raise BundleError(f"This version decides by a threshold, not by {decision.rule!r}. Update sonoedge.")
    if decision.label not in labels:
        raise BundleError(f"decision.label {decision.label!r} is not among the labels {labels}.")
    return decision


def _parse_input(body: Any) -> InputSpec:
    spec = InputSpec(
        **record(
            body, "input", height=int, width=int, channels=str, low=(int, float), high=(int, float), resize=str
        )
    )
    if min(spec.height, spec.width) < 1:
        raise BundleError(f"input size must be positive. Received: {spec.height}x{spec.width}.")
    if (spec.channels, spec.low, spec.high, spec.resize) != ("RGB", 0.0, 255.0, RESIZE_RULE):
        raise BundleError(f"This version only runs RGB 0–255 input resized by {RESIZE_RULE}. Received: {spec}.")
    return spec


def _parse_branch(body: Any, where: str) -> Branch:
    branch = Branch(**record(body, where, name=str, height=int, width=int, channels=int))
    if _NAME.fullmatch(branch.name) is None or min(branch.height, branch.width, branch.channels) < 1:
        raise BundleError(f"{where} is not a feature map with a name and positive sizes: {branch}.")
    return branch


def _parse_artifact(body: Any, where: str) -> Artifact:
    artifact = Artifact(
        **record(
            body,
            where,
            name=str,
            runtime=str,
            precision=str,
            recipe=dict,
            backbone=str,
            head=str,
            size_bytes=int,
            threshold=(int, float),
            metrics=dict,
            input_dtype=str,
            output_dtype=str,
        )
    )
    if _NAME.fullmatch(artifact.name) is None:
        raise BundleError(f"{where}.name {artifact.name!r} must be lower-case letters, digits, '.', '_', '-'.")
    if artifact.runtime not in RUNTIMES:
        raise BundleError(f"{where}.runtime {artifact.runtime!r} is unknown. Known: {', '.join(RUNTIMES)}.")
    if not 0.0 <= artifact.threshold <= 1.0:
        raise BundleError(f"{where}.threshold must be a probability. Received: {artifact.threshold}.")
    known = DTYPES if artifact.runtime == "tflite" else DTYPES[:1]
    if artifact.input_dtype not in known or artifact.output_dtype != artifact.input_dtype:
        raise BundleError(
            f"{where}: this version sets and gets float32 only, or int8 only in TensorFlow Lite files. "
            f"Received: {artifact.input_dtype}, {artifact.output_dtype}."
        )
    check_path(artifact.backbone, f"{where}.backbone")
    check_path(artifact.head, f"{where}.head")
    return artifact


def _parse_cascade(body: Any) -> CascadeSpec:
    number = (int, float)
    texts = {"first": str, "first_artifact": str, "full_artifact": str}
    spec = CascadeSpec(**record(body, "cascade", **texts, scale=number, offset=number, margin=number, metrics=dict))
    if any(_NAME.fullmatch(getattr(spec, key)) is None for key in texts):
        raise BundleError("cascade: names must be lower-case letters, digits, '.', '_', '-'.")
    # JSON has no infinity, but 1e999 becomes one, and a whole number may be larger than any float.
    if any(not abs(value) <= sys.float_info.max for value in (spec.scale, spec.offset, spec.margin)):
        raise BundleError(f"cascade: scale, offset and margin must be finite. Received: {spec}.")
    if not spec.scale > 0 or not spec.margin >= 0:
        raise BundleError(f"cascade: scale must be positive, margin not negative. Received: {spec}.")
    return spec
