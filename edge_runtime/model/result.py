"""What a model says of one image: its numbers alone (`Prediction`), and what a user gets (`Result`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.explain.caption import captioned
from sonoedge.edge_runtime.explain.files import explanation_files, write_explanation, write_refusal
from sonoedge.edge_runtime.explain.gradcam import FUSED, Explanation, explanation, overlay, unit_map
from sonoedge.edge_runtime.model.assess import Assessment, Band
from sonoedge.edge_runtime.model.gate import GateResult
from sonoedge.edge_runtime.types import Float32Array, UInt8Image


@dataclass(frozen=True)
class Prediction:
    """The model's numbers for one image, whatever the image shows; a user gets a `Result`.

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
class Result:
    """The verdict on one image, and the numbers behind it. It stays usable after its model is closed.

    If an image is refused, label, scores, probability, logit, band and outputs are None, unless the refused image's
    numbers were asked for (``ungated``); the verdict is ``refused`` either way.

    Attributes:
        image, label, probability, logit, threshold, artifact, latency_ms: see `Prediction`.
        assessment: verdict, reasons and both in words; see `verdict`, `reasons`, `text`.
        gate: how far the image is from those of training; None if the bundle has no gate.
        hints: codes of `edge_runtime.imaging.quality.hints`.
        band: over shifted views; None if none were asked for.
        frame: number, from 1, of the file's frame that was asked for; None if none was.
        picture: what was classified, uint8 (height, width, 3).
        outputs: of the head, and the maps, see `Predictor.explain_raw`.
        features: the gate's input, for `edge_runtime.model.drift`; None without a gate.
        bundle: of the model that decided.
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
    frame: int | None
    picture: UInt8Image = field(repr=False, compare=False)
    outputs: Mapping[str, Float32Array] | None = field(repr=False, compare=False)
    features: Float32Array | None = field(repr=False, compare=False)
    bundle: Bundle = field(repr=False, compare=False)

    @property
    def verdict(self) -> str:
        """``suspicious``, ``not_suspicious``, ``uncertain`` or ``refused``."""
        return self.assessment.verdict

    @property
    def reasons(self) -> tuple[str, ...]:
        """The codes of what speaks against the image, see `edge_runtime.model.assess`; empty if nothing does."""
        return self.assessment.reasons

    @property
    def text(self) -> str:
        """Verdict and reasons in words."""
        return self.assessment.text

    @property
    def scores(self) -> dict[str, float] | None:
        """The probability of each class, 0–1, in the order of the bundle's labels; they add up to 1."""
        if self.probability is None:
            return None
        positive = self.bundle.positive_label
        return {
            label: self.probability if label == positive else 1.0 - self.probability for label in self.bundle.labels
        }

    @property
    def withheld(self) -> bool:
        """Whether the image was refused and therefore has no numbers."""
        return self.outputs is None

    def explain(self, label: str | None = None) -> Explanation:
        """Why the image got its answer: heat maps and the branches' shares; see `Explanation`.

        Args:
            label: the class to explain; None takes the predicted one.

        Raises:
            UsageError: the image was refused, or the bundle has no such class.
            BundleError: the artifact was exported without explanations.
        """
        if self.outputs is None or self.label is None:
            raise UsageError(f"{self.image} was refused: a picture without an answer has no explanation.")
        return explanation(self.bundle, self.outputs, label or self.label)

    def plot(self, label: str | None = None, *, branch: str = FUSED, opacity: float = 0.5) -> Image.Image:
        """The picture under its heat map, with verdict and numbers below; a refused picture has no heat map.

        Args:
            label: the class to explain; None takes the predicted one.
            branch: whose map is drawn; ``fused`` is the sum of all.
            opacity: of the hottest spot, 0–1.

        Returns:
            A Pillow image in RGB, 36 pixels higher than the picture.

        Raises:
            UsageError: the bundle has no such class or branch.
            BundleError: the artifact was exported without explanations.
        """
        picture, number = self.picture, ""
        if self.outputs is not None and self.probability is not None:
            cam = self.explain(label).map_of(branch)
            picture = overlay(picture, unit_map(cam, picture.shape[:2]), opacity=opacity)
            number = f"  p({self.bundle.positive_label})={self.probability:.3f}"
        return Image.fromarray(captioned(picture, self.verdict + number, "research use only"))

    def save(self, folder: str | Path = ".", label: str | None = None) -> list[Path]:
        """Write what ``sonoedge explain`` writes: ``<stem>.overlay.png``, ``.panel.png``, ``.npz`` and ``.json``.

        Of a refused image only the JSON file is written, and heat maps of an earlier run are deleted.

        Args:
            folder: is made if needed.
            label: the class to explain; None takes the predicted one.

        Returns:
            The files.

        Raises:
            UsageError: the bundle has no such class.
            BundleError: the artifact was exported without explanations.
        """
        stem = Path(folder) / Path(self.image).stem
        if self.withheld:
            return [write_refusal(stem, self.to_json())]
        write_explanation(stem, self.picture, self.explain(label), self.to_json())
        return explanation_files(stem)

    def to_json(self) -> dict[str, Any]:
        """The fields of a prediction (null if withheld), ``verdict``, ``reasons``, ``text`` and ``gate``.

        ``frame`` follows if one was asked for, and ``site`` if the threshold is that of a site's overlay.
        """
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
            **({} if self.frame is None else {"frame": self.frame}),
            **({} if self.bundle.site is None else {"site": self.bundle.site.site}),
        }
