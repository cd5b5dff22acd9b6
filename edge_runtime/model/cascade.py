"""Two models as one: the cheap one answers if it is sure, else the full one answers; see `CascadeSpec`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sonoedge.edge_runtime.bundle.contract import MANIFEST, Bundle, CascadeSpec
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.bundle.site import in_use
from sonoedge.edge_runtime.bundle.trust import load_trusted, trusted, without_policy
from sonoedge.edge_runtime.errors import BundleError
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.predictor import Predictor
from sonoedge.edge_runtime.model.result import Prediction, Result
from sonoedge.edge_runtime.types import Float32Array, UInt8Image

CASCADE = "cascade"
"""The name of both models together for ``--artifact``; the default of a bundle that has a cascade."""
_SCALED = ("cam", "alpha_", "share_")


class Cascade(Predictor):
    """Both models of a bundle with a cascade, open. It answers like a `Classifier`.

    `Prediction.artifact` says which model decided; the cheap model has the name ``<first>/<artifact>``. If the
    cheap model decides, the logit is its estimate of the full model's logit, and maps and shares are scaled alike:
    all answers are on one scale with one threshold. If both models ran, milliseconds are those of both. Threads may
    share a cascade.

    Raises:
        BundleError: the bundle has no cascade, or the cheap model's bundle does not fit.
        MissingExtraError: the interpreter of one model is not installed.
        TrustError: the policy refuses the bundle.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        bundle = trusted(bundle)
        if bundle.cascade is None:
            raise BundleError(f"{bundle.path} holds no cascade, or one that this device's policy leaves out.")
        self.bundle, self.spec = bundle, bundle.cascade
        self.full = Classifier(bundle, self.spec.full_artifact, threads=threads)
        self.first = Classifier(without_policy(first_bundle(bundle)), self.spec.first_artifact, threads=threads)
        self.artifact = self.full.artifact
        self.input_size = self.first.input_size
        self._first_name = f"{self.spec.first}/{self.first.artifact.name}"
        self._cut = logit_threshold(self.artifact.threshold)

    def close(self) -> None:
        """Free the interpreters of both models; every later call is a `UsageError`."""
        self.full.close()
        self.first.close()

    @property
    def models(self) -> dict[str, Classifier]:
        """Both models, as `Prediction.artifact` names them."""
        return {self._first_name: self.first, self.full.artifact.name: self.full}

    @property
    def gated(self) -> bool:
        """Whether every answer comes with a gate's verdict.

        Raises:
            BundleError: only one of the two models has a gate; no gate would check the answers of the other.
        """
        if self.full.gated != self.first.gated:
            without = "the cheap model" if self.full.gated else "the full model"
            raise BundleError(
                f"In this cascade {without} has no gate against images unlike those of training: run sonoedge gate "
                f"on its bundle before sonoedge cascade, or name one model: --artifact {self.artifact.name}."
            )
        return self.full.gated

    def deciding_model(self, prediction: Prediction | Result) -> Classifier:
        """The model that gave an answer."""
        return self.models[prediction.artifact]

    def scale_of(self, result: Result) -> tuple[float, float]:
        """See `estimate` for the cheap model; the full model's logits count as they are."""
        return (self.spec.scale, self.spec.offset) if result.artifact == self._first_name else (1.0, 0.0)

    def explain_prepared(
        self,
        model_input: Float32Array,
        image: UInt8Image,
        *,
        name: str = "",
        decode_ms: float = 0.0,
        resize_ms: float = 0.0,
    ) -> tuple[Prediction, dict[str, Float32Array]]:
        """See `Predictor.explain_prepared`; ``model_input`` is for the cheap model."""
        first, outputs = self.first.explain_prepared(
            model_input, image, name=name, decode_ms=decode_ms, resize_ms=resize_ms
        )
        logit = estimate(self.spec, first.logit)
        if abs(logit - self._cut) >= self.spec.margin:
            return self._answer_of_first(first, logit, outputs)
        full, full_outputs = self.full.explain_raw(image, name=name)
        latency_ms = {stage: ms + first.latency_ms[stage] for stage, ms in full.latency_ms.items()}
        return Prediction(**{**vars(full), "latency_ms": latency_ms}), full_outputs

    def _answer_of_first(
        self, first: Prediction, logit: float, outputs: dict[str, Float32Array]
    ) -> tuple[Prediction, dict[str, Float32Array]]:
        probability = float(1.0 / (1.0 + np.exp(-np.clip(logit, -700.0, 700.0))))
        positive = logit >= self._cut
        prediction = Prediction(
            image=first.image,
            label=self.bundle.positive_label if positive else self.bundle.negative_label,
            probability=probability,
            logit=logit,
            threshold=self.artifact.threshold,
            artifact=self._first_name,
            latency_ms=first.latency_ms,
        )
        scaled = {
            key: np.float32(self.spec.scale) * value if key.startswith(_SCALED) else value
            for key, value in outputs.items()
        }
        if "share_bias" in scaled:
            scaled["share_bias"] = scaled["share_bias"] + np.float32(self.spec.offset)
        scaled["logit"] = np.full((1, 1), logit, np.float32)
        scaled["probability"] = np.full((1, 1), probability, np.float32)
        return prediction, scaled


def logit_threshold(threshold: float) -> float:
    """A threshold, a probability from 0 to 1, as a logit.

    The logits of 0 and 1 are infinite: then every answer is the same, and the cheap model always decides.
    """
    with np.errstate(divide="ignore"):
        return float(np.log(threshold) - np.log1p(-threshold))


def estimate(spec: CascadeSpec, logit: float) -> float:
    """The full model's logit, estimated from the cheap model's."""
    return spec.scale * logit + spec.offset


def first_bundle(bundle: Bundle) -> Bundle:
    """The cheap model's bundle inside a bundle with a cascade, with its digests checked.

    Raises:
        BundleError: the bundle is missing, damaged, itself a cascade, or has other labels or another kind of input.
        UsageError: it lacks the artifact that the cascade names.
    """
    assert bundle.cascade is not None
    folder = bundle.path / bundle.cascade.first
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"The cascade names {bundle.cascade.first}/, which holds no bundle.")
    first = load_bundle(folder)
    check_pair(first, bundle)
    first.artifact(bundle.cascade.first_artifact)
    return first


def check_pair(first: Bundle, full: Bundle) -> None:
    """Check that both bundles have the same labels and kind of input, and that ``first`` is no cascade.

    Raises:
        BundleError: they do not fit.
    """
    if (first.labels, first.positive_label) != (full.labels, full.positive_label):
        raise BundleError(
            f"Both models of a cascade need the same labels. Received: {', '.join(first.labels)} and "
            f"{', '.join(full.labels)}."
        )
    ranges = [(spec.channels, spec.low, spec.high, spec.resize) for spec in (first.input, full.input)]
    if ranges[0] != ranges[1]:
        raise BundleError(
            f"Both models of a cascade need the same kind of input. Received: {first.input}, {full.input}."
        )
    if first.cascade is not None:
        raise BundleError(f"{first.path} is a cascade itself; the model asked first must be a plain bundle.")


def open_classifier(
    bundle: Bundle | str | Path, artifact: str | None = None, *, threads: int | None = None
) -> Classifier | Cascade:
    """Open a bundle to answer: its cascade if it has one and no artifact is named, else a `Classifier`.

    Thresholds are those of the site, if there is an overlay (`edge_runtime.bundle.site`).

    Raises the errors of `Classifier` and `Cascade`.
    """
    loaded = in_use(trusted(bundle) if isinstance(bundle, Bundle) else load_trusted(bundle))
    if artifact == CASCADE or (artifact is None and loaded.cascade is not None):
        return Cascade(loaded, threads=threads)
    return Classifier(loaded, artifact, threads=threads)
