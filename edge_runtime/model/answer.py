"""The results for one image: the model's numbers, and the answer that a user gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sonoedge.edge_runtime.model.assess import Assessment, Band
from sonoedge.edge_runtime.model.gate import GateResult
from sonoedge.edge_runtime.types import Float32Array


@dataclass(frozen=True)
class Prediction:
    """The model's numbers for one image, whatever the image shows; a user gets an `Answer`.

    ``probability`` and ``logit`` are of the bundle's positive label.

    Attributes:
        image: the path as given.
        label: the positive label if probability >= threshold, else the other one.
        probability: 0–1.
        logit: real; probability = 1 / (1 + exp(-logit)).
        threshold: a probability, 0–1.
        artifact: name of the artifact that answered.
        latency_ms: wall-clock milliseconds of ``decode``, ``resize``, ``invoke`` (backbone) and ``head``.
    """

    image: str
    label: str
    probability: float
    logit: float
    threshold: float
    artifact: str
    latency_ms: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with these fields; milliseconds to three decimals."""
        body = asdict(self)
        body["latency_ms"] = {name: round(value, 3) for name, value in self.latency_ms.items()}
        return body


@dataclass(frozen=True)
class Answer:
    """The verdict on one image, and the numbers behind it.

    If an image is refused, label, probability, logit, band and outputs are None. With ``gated=False`` label,
    probability, logit and outputs are given, but the verdict is still ``refused``.

    Attributes:
        image, label, probability, logit, threshold, artifact, latency_ms: see `Prediction`.
        assessment: verdict, reasons and both in words.
        gate: how far the image is from those of training; None if the bundle has no gate.
        hints: codes of `edge_runtime.imaging.quality.hints`.
        band: over shifted views; None if none were asked for.
        outputs: of the head, and the maps, see `Predictor.explain_raw`.
        features: the gate's input, for `edge_runtime.model.drift`; None without a gate.
    """

    image: str
    label: str | None
    probability: float | None
    logit: float | None
    threshold: float
    artifact: str
    latency_ms: dict[str, float]
    assessment: Assessment
    gate: GateResult | None
    hints: tuple[str, ...]
    band: Band | None
    outputs: Mapping[str, Float32Array] | None = field(repr=False, compare=False)
    features: Float32Array | None = field(repr=False, compare=False)

    @property
    def verdict(self) -> str:
        """One of `edge_runtime.model.assess.VERDICTS`."""
        return self.assessment.verdict

    @property
    def withheld(self) -> bool:
        """Whether the image was refused and therefore has no numbers."""
        return self.outputs is None

    def to_json(self) -> dict[str, Any]:
        """The fields of a prediction (null if withheld), ``verdict``, ``reasons``, ``text`` and ``gate``."""
        return {
            "image": self.image,
            "label": self.label,
            "probability": self.probability,
            "logit": self.logit,
            "threshold": self.threshold,
            "artifact": self.artifact,
            "latency_ms": {name: round(value, 3) for name, value in self.latency_ms.items()},
            **self.assessment.to_json(),
            "gate": self.gate.to_json() if self.gate else None,
        }
