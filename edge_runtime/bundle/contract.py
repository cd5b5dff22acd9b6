"""The bundle: the folder that is the only contract between the workstation and the device.

    bundle/
      bundle.json            this module's `Bundle`, schema version 2
      <artifact>/backbone.*  image -> one feature map per branch
      <artifact>/head.*      maps -> logit, probability, Grad-CAM maps, channel weights, shares
      domain.npz             the gate (`edge_runtime.model.gate`), unless the export left it out
      golden.npz             generated images with the results that every artifact must reproduce
      agreement.jsonl        if the export was given unlabelled frames (`edge_runtime.device.agreement`)
      MODEL_CARD.md
      sbom.cdx.json          what the bundle was made with (CycloneDX)
      <first>/               if there is a cascade: a whole bundle with the cheap model that is asked first
      SHA256SUMS             the digests of all other files; digests are stored nowhere else
      SHA256SUMS.sig         if the bundle is signed: who vouches for it (`edge_runtime.bundle.signature`)

Reading is strict: an unknown key, a changed byte, a missing or an extra file, a link or a path that leaves the
folder is a `BundleError`. Schema version 1 is read, too (`edge_runtime.bundle.schema_1`).

Schema 2 has fields for what this version does not do yet, so that later versions only fill them: it reads the one
value that it runs and refuses others in one sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.errors import UsageError

SCHEMA_VERSION = 2
"""The version that is written; `READ_VERSIONS` are read."""
READ_VERSIONS = (1, 2)
MANIFEST = "bundle.json"
GOLDEN = "golden.npz"
GATE_FILE = "domain.npz"
MODEL_CARD = "MODEL_CARD.md"
SBOM = "sbom.cdx.json"
RESIZE_RULE = "pillow-bilinear-antialiased-stretch"
RUNTIMES = ("tflite", "openvino", "onnx")
REASONS = ("outside_training", "unlike_training", "not_b_mode", "shifted_view")
"""The codes of what can speak against a picture (`edge_runtime.model.assess`)."""
DTYPES = ("float32", "int8")
"""What a backbone's inputs and outputs may be; int8 in TensorFlow Lite only."""
SITE_VALUES = ("temperature", "threshold")
"""What the overlay of a site may replace."""


@dataclass(frozen=True)
class InputSpec:
    """What every backbone expects: float32 (1, height, width, 3), RGB, 0–255, resized by ``resize``."""

    height: int
    width: int
    channels: str = "RGB"
    low: float = 0.0
    high: float = 255.0
    resize: str = RESIZE_RULE


@dataclass(frozen=True)
class Decision:
    """How scores become a label.

    Attributes:
        rule: ``threshold``: ``label`` if its probability is at least the artifact's threshold, else the other.
        label: the class that the threshold is for, the positive one.
    """

    rule: str
    label: str


@dataclass(frozen=True)
class Branch:
    """One feature map that a backbone emits: float32 (1, height, width, channels)."""

    name: str
    height: int
    width: int
    channels: int


@dataclass(frozen=True)
class Artifact:
    """One format of the model: two files, an operating point and what was measured at export.

    Attributes:
        name: of its export format and of its folder in the bundle.
        runtime: ``tflite``, ``openvino`` or ``onnx``.
        precision: of the backbone's weights and activations, for example ``w8a8``, ``mixed``, ``fp16``.
        recipe: how the artifact was quantized; empty for float formats.
        backbone, head: paths relative to the bundle.
        size_bytes: of all files of this artifact together.
        threshold: an image is positive if its probability (0–1) is at least this.
        metrics: figures measured at export, by name.
        input_dtype, output_dtype: of the backbone's tensors: both ``float32``, or both ``int8``. An int8 input is
            the image - 128; an int8 map has its scale and zero point in the file. The head is float32.
    """

    name: str
    runtime: str
    precision: str
    recipe: Mapping[str, Any]
    backbone: str
    head: str
    size_bytes: int
    threshold: float
    metrics: Mapping[str, Any]
    input_dtype: str = "float32"
    output_dtype: str = "float32"


@dataclass(frozen=True)
class CascadeSpec:
    """A cheap model answers first; the bundle's own model is asked only if the cheap one is not sure.

    ``scale`` * logit + ``offset`` estimates the full model's logit from the cheap model's. If the estimate is
    closer than ``margin`` to the full model's threshold (in logits), the full model decides.

    Attributes:
        first: folder in the bundle that holds the cheap model's bundle.
        first_artifact, full_artifact: names of the artifacts for which the numbers were fitted.
        scale, offset, margin: finite; scale > 0, margin >= 0.
        metrics: figures measured when the numbers were fitted.
    """

    first: str
    first_artifact: str
    full_artifact: str
    scale: float
    offset: float
    margin: float
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class SitePoint:
    """The operating point of an artifact at a site; value, low and high end of each measured figure."""

    artifact: str
    threshold: float
    sensitivity: tuple[float, ...]
    specificity: tuple[float, ...]


@dataclass(frozen=True)
class Site:
    """What a site chose with its own images; `edge_runtime.bundle.site` describes the fields."""

    created: str
    site: str
    bundle: str
    bundle_digest: str
    sensitivity: float
    images: int
    patients: int
    positive_patients: int
    points: tuple[SitePoint, ...]


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        path: its folder; bundle.json does not hold it.
        name: for people.
        labels: the classes, at least two.
        decision: how scores become a label.
        input, branches: shapes of the backbones' inputs and outputs.
        artifacts: in order of preference.
        provenance: what the bundle was made from; its keys are the exporter's.
        intended_use: a sentence for people.
        cascade: None if the bundle has one model only.
        gate: `GATE_FILE`, or None if the bundle has no gate.
        reasons: the codes that an assessment may give; all of `REASONS`.
        lesion_map: None; room for an output that outlines lesions.
        site_overlay: which of `SITE_VALUES` the overlay of a site may replace.
        schema_version: of the file that was read.
        policy_checked: whether the device's policy was applied (`edge_runtime.bundle.trust`); not in bundle.json.
        site: whose thresholds the artifacts have (`edge_runtime.bundle.site`); None for the bundle's own; not in
            bundle.json.
    """

    path: Path
    name: str
    labels: tuple[str, ...]
    decision: Decision
    input: InputSpec
    branches: tuple[Branch, ...]
    artifacts: tuple[Artifact, ...]
    provenance: Mapping[str, Any]
    intended_use: str
    cascade: CascadeSpec | None = None
    gate: str | None = None
    reasons: tuple[str, ...] = REASONS
    lesion_map: None = None
    site_overlay: tuple[str, ...] = SITE_VALUES
    schema_version: int = field(default=SCHEMA_VERSION, compare=False)
    policy_checked: bool = field(default=False, compare=False, repr=False)
    site: Site | None = field(default=None, compare=False, repr=False)

    def artifact(self, name: str) -> Artifact:
        """The artifact of that name.

        Raises:
            UsageError: there is none; the message lists the names.
        """
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        names = ", ".join(a.name for a in self.artifacts)
        raise UsageError(f"The bundle {self.path} has no artifact {name!r}. It has: {names}.")

    @property
    def positive_label(self) -> str:
        """The label that the threshold is for."""
        return self.decision.label

    @property
    def negative_label(self) -> str:
        """The other label of a binary classifier."""
        return next(label for label in self.labels if label != self.positive_label)
