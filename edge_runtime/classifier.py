"""Image -> prediction and explanation, with one artifact of a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

from edge_runtime.backends import Float32Array, is_available, open_model
from edge_runtime.bundle import Artifact, Bundle
from edge_runtime.domain import Domain, DomainGate, load_gate
from edge_runtime.errors import BundleError, ImageError, MissingExtraError
from edge_runtime.image import UInt8Image, read_image, to_input
from edge_runtime.trust import load_trusted

EXTRA_OF_RUNTIME = {"tflite": "litert", "openvino": "openvino", "onnx": "onnx"}


@dataclass(frozen=True)
class Prediction:
    """One answer. ``probability`` and ``logit`` are of the bundle's positive label.

    Attributes:
        image: the path as given.
        label: the positive label where probability >= threshold, else the other one.
        probability: 0–1.
        logit: real; probability = 1 / (1 + exp(-logit)).
        threshold: probability.
        artifact: which file answered.
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


class PredictsFiles(ABC):
    """What follows from `explain_prepared`; ``input_size`` is (height, width) of what that takes."""

    input_size: tuple[int, int]

    @abstractmethod
    def explain_prepared(
        self,
        model_input: Float32Array,
        image: UInt8Image,
        *,
        name: str = "",
        decode_ms: float = 0.0,
        resize_ms: float = 0.0,
    ) -> tuple[Prediction, dict[str, Float32Array]]:
        """`explain_raw` of a prepared input, float32 (1, height, width, 3), 0–255.

        ``image``, which it was made from, is for a cascade, whose second model has a size of its own.
        """

    def explain_raw(
        self, image: UInt8Image, *, name: str = "", decode_ms: float = 0.0
    ) -> tuple[Prediction, dict[str, Float32Array]]:
        """A prediction, every output of the head (see `edge_runtime.explain`), and the maps as ``map_<branch>``.

        A cascade's are those of the model that decided.
        """
        start = perf_counter()
        model_input = to_input(image, self.input_size)
        return self.explain_prepared(model_input, image, name=name, decode_ms=decode_ms, resize_ms=_since(start))

    def predict(self, image: UInt8Image, *, name: str = "", decode_ms: float = 0.0) -> Prediction:
        """Classify one RGB image, uint8 (height, width, 3) of any size."""
        return self.explain_raw(image, name=name, decode_ms=decode_ms)[0]

    def predict_file(self, path: str | Path) -> Prediction:
        """Classify one image file.

        Raises:
            ImageError: the file cannot be decoded.
        """
        image, decode_ms = timed_image(path)
        return self.predict(image, name=str(path), decode_ms=decode_ms)

    def predict_files(self, paths: Iterable[str | Path]) -> Iterator[Prediction | ImageError]:
        """Classify files one after the other; a file that cannot be decoded yields its error, not an end."""
        for path in paths:
            try:
                yield self.predict_file(path)
            except ImageError as error:
                yield error


class Classifier(PredictsFiles):
    """An open artifact.

    Args:
        bundle: a loaded bundle, or its path; by path, the device's policy is enforced (`edge_runtime.trust`).
        artifact: by name; None takes the first whose interpreter is installed.
        threads: for the interpreter.

    Raises:
        BundleError: the bundle, or the file's tensors, are not what bundle.json says.
        TrustError: the policy refuses the bundle.
        UsageError: no such artifact.
        MissingExtraError: no interpreter for it.
    """

    def __init__(
        self, bundle: Bundle | str | Path, artifact: str | None = None, *, threads: int | None = None
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else load_trusted(bundle)
        self.artifact = self.bundle.artifact(artifact) if artifact else first_runnable(self.bundle)
        if len(self.bundle.labels) != 2:
            raise BundleError(f"This version runs binary classifiers. Labels: {self.bundle.labels}.")
        runtime = self.artifact.runtime
        self.backbone = open_model(self.bundle.path / self.artifact.backbone, runtime, threads=threads)
        # The head is a few small matrix products: a second thread would cost more than it brings.
        self.head = open_model(self.bundle.path / self.artifact.head, runtime, threads=1)
        self.input_size = (self.bundle.input.height, self.bundle.input.width)
        self._check_tensors()

    @property
    def models(self) -> dict[str, Classifier]:
        """The models that can give an answer, as `Prediction.artifact` names them: this one."""
        return {self.artifact.name: self}

    def decider(self, prediction: Prediction) -> Classifier:
        """The model that gave an answer: this one (see `edge_runtime.cascade`)."""
        return self

    @cached_property
    def gate(self) -> DomainGate | None:
        """What tells images unlike those of training; None where the bundle has none for this artifact.

        Raises:
            BundleError: domain.npz does not fit the bundle.
        """
        return load_gate(self.bundle, self.artifact.name)

    @property
    def gated(self) -> bool:
        """Whether every answer comes with a gate's verdict."""
        return self.gate is not None

    def domain(self, outputs: Mapping[str, Float32Array]) -> Domain | None:
        """The gate's verdict on one image, from what `explain_raw` returned for it; None without a gate."""
        return self.gate.check(outputs) if self.gate else None

    def explain_prepared(
        self,
        model_input: Float32Array,
        image: UInt8Image,
        *,
        name: str = "",
        decode_ms: float = 0.0,
        resize_ms: float = 0.0,
    ) -> tuple[Prediction, dict[str, Float32Array]]:
        """See `PredictsFiles.explain_prepared`; ``image`` is not looked at."""
        resized = perf_counter()
        maps = self.backbone.run({"image": model_input})
        invoked = perf_counter()
        outputs = self.head.run(maps)
        done = perf_counter()
        latency_ms = {
            "decode": decode_ms,
            "resize": resize_ms,
            "invoke": 1e3 * (invoked - resized),
            "head": 1e3 * (done - invoked),
        }
        kept = {f"map_{branch}": array for branch, array in maps.items()}
        return self._prediction(outputs, name, latency_ms), {**outputs, **kept}

    def logit(self, model_input: Float32Array) -> float:
        """The logit of one prepared input, float32 (1, height, width, 3), 0–255."""
        return float(self.head.run(self.backbone.run({"image": model_input}))["logit"].reshape(()))

    def _prediction(self, outputs: dict[str, Float32Array], name: str, latency_ms: dict[str, float]) -> Prediction:
        probability = float(outputs["probability"].reshape(()))
        positive = probability >= self.artifact.threshold
        return Prediction(
            image=name,
            label=self.bundle.positive_label if positive else self.bundle.negative_label,
            probability=probability,
            logit=float(outputs["logit"].reshape(())),
            threshold=self.artifact.threshold,
            artifact=self.artifact.name,
            latency_ms=latency_ms,
        )

    def _check_tensors(self) -> None:
        expected = {"image": (1, *self.input_size, 3)}
        maps = {b.name: (1, b.height, b.width, b.channels) for b in self.bundle.branches}
        for what, received, wanted in (
            ("backbone inputs", self.backbone.input_shapes, expected),
            ("backbone outputs", self.backbone.output_shapes, maps),
            ("head inputs", self.head.input_shapes, maps),
        ):
            if received != wanted:
                raise BundleError(f"{self.artifact.name}: {what} must be {wanted}. Received: {received}.")
        if missing := {"logit", "probability"} - set(self.head.output_shapes):
            raise BundleError(f"{self.artifact.name}: the head lacks the outputs {sorted(missing)}.")


def first_runnable(bundle: Bundle) -> Artifact:
    """The first artifact in the bundle's order whose interpreter is installed here."""
    for artifact in bundle.artifacts:
        if is_available(artifact.runtime):
            return artifact
    names = ", ".join(f"{a.name} ({a.runtime})" for a in bundle.artifacts)
    raise MissingExtraError(
        f"An interpreter for any artifact of this bundle, {names},", EXTRA_OF_RUNTIME[bundle.artifacts[0].runtime]
    )


def timed_image(path: str | Path, frame: int | None = None) -> tuple[UInt8Image, float]:
    """A decoded image file, and the milliseconds that it took; see `read_image` for ``frame`` and the errors."""
    start = perf_counter()
    image = read_image(path, frame=frame)
    return image, _since(start)


def preprocess_file(path: str | Path, size: tuple[int, int]) -> Float32Array:
    """Decode and resize an image file: float32 (1, height, width, 3), 0–255."""
    return to_input(read_image(path), size)


def _since(start: float) -> float:
    return 1e3 * (perf_counter() - start)
