"""Image -> verdict, prediction and explanation, with one artifact of a bundle.

predict     the answer for users, from gate, picture quality and threshold; a refused picture gets only reasons
explain_raw the model's numbers alone, for replays, exports and benchmarks; no gate is asked
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np

from sonoedge.edge_runtime.backends import extra_of, is_available, no_wheel, open_model
from sonoedge.edge_runtime.bundle.contract import Artifact, Bundle
from sonoedge.edge_runtime.bundle.trust import load_trusted, trusted
from sonoedge.edge_runtime.errors import BundleError, ImageError, MissingExtraError, ModelError
from sonoedge.edge_runtime.imaging.image import read_image, to_input
from sonoedge.edge_runtime.imaging.quality import hints, measure
from sonoedge.edge_runtime.model.answer import Answer, Prediction
from sonoedge.edge_runtime.model.assess import assess, band_of, shifted_views
from sonoedge.edge_runtime.model.gate import Gate, features_of, load_gate
from sonoedge.edge_runtime.types import Float32Array, UInt8Image


class Predictor(ABC):
    """The methods that build on `explain_prepared`; ``input_size`` is (height, width) of its input."""

    bundle: Bundle
    input_size: tuple[int, int]

    @property
    @abstractmethod
    def gated(self) -> bool:
        """Whether a gate judges every image."""

    @abstractmethod
    def deciding_model(self, prediction: Prediction | Answer) -> Classifier:
        """The model that gave an answer."""

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
        """`explain_raw` with a prepared input, float32 (1, height, width, 3), 0–255.

        ``image`` is the picture of the input, for the second model of a cascade, which may have another size.
        """

    def explain_raw(
        self, image: UInt8Image, *, name: str = "", decode_ms: float = 0.0
    ) -> tuple[Prediction, dict[str, Float32Array]]:
        """A prediction, every output of the head (`edge_runtime.explain.gradcam`), the maps as ``map_<branch>``.

        In a cascade these are of the model that decided. ``image`` is uint8 (height, width, 3) of any size.
        """
        start = perf_counter()
        model_input = to_input(image, self.input_size)
        return self.explain_prepared(model_input, image, name=name, decode_ms=decode_ms, resize_ms=_since(start))

    def predict_prepared(
        self,
        model_input: Float32Array,
        image: UInt8Image,
        *,
        name: str = "",
        decode_ms: float = 0.0,
        resize_ms: float = 0.0,
        gated: bool = True,
        views: int = 1,
    ) -> Answer:
        """`predict` with a prepared input, see `explain_prepared`; quality and views are taken from ``image``."""
        if gated:
            _ = self.gated  # raises if only one model of a cascade has a gate
        prediction, outputs = self.explain_prepared(
            model_input, image, name=name, decode_ms=decode_ms, resize_ms=resize_ms
        )
        if not np.isfinite([prediction.probability, prediction.logit]).all():
            raise ModelError("The model did not answer with a number.")
        gate, band = self.deciding_model(prediction).gate, None
        features = features_of(outputs, gate.branches) if gate else None
        gate_result = gate.check_features(features) if gate and features is not None else None
        found = hints(image, measure(image))
        numbers = (self.bundle, prediction.probability, prediction.threshold)
        assessment = assess(*numbers, gate=gate_result, hints=found)
        if views > 1 and not assessment.refused:
            shifted = [self.explain_raw(view)[0].probability for view in shifted_views(image, views - 1)]
            band = band_of([prediction.probability, *shifted])
            assessment = assess(*numbers, gate=gate_result, hints=found, band=band)
        withheld = gated and assessment.refused
        return Answer(
            image=name,
            label=None if withheld else prediction.label,
            probability=None if withheld else prediction.probability,
            logit=None if withheld else prediction.logit,
            threshold=prediction.threshold,
            artifact=prediction.artifact,
            latency_ms=prediction.latency_ms,
            assessment=assessment,
            gate=gate_result,
            hints=found,
            band=band,
            outputs=None if withheld else outputs,
            features=features,
        )

    def predict(
        self, image: UInt8Image, *, name: str = "", decode_ms: float = 0.0, gated: bool = True, views: int = 1
    ) -> Answer:
        """The verdict on one RGB image, uint8 (height, width, 3) of any size, with the numbers behind it.

        Args:
            image: the picture.
            name: for `Answer.image`.
            decode_ms: milliseconds that decoding took, for `Answer.latency_ms`.
            gated: False gives the numbers of a refused image, too.
            views: 1 to 9; above 1, ``views`` - 1 slightly shifted crops are classified, too (`Answer.band`).

        Raises:
            BundleError: only one model of a cascade has a gate.
            ImageError: ``image`` has another dtype or shape.
            ModelError: the model's answer is NaN or infinite.
        """
        start = perf_counter()
        model_input = to_input(image, self.input_size)
        return self.predict_prepared(
            model_input, image, name=name, decode_ms=decode_ms, resize_ms=_since(start), gated=gated, views=views
        )

    def predict_file(self, path: str | Path, *, gated: bool = True, frame: int | None = None) -> Answer:
        """`predict` with one image file, or with one frame, counted from 1, of a loop.

        Raises:
            ImageError: the file cannot be decoded, or holds several frames and none is named.
        """
        image, decode_ms = timed_image(path, frame)
        return self.predict(image, name=str(path), decode_ms=decode_ms, gated=gated)

    def predict_files(self, paths: Iterable[str | Path], *, gated: bool = True) -> Iterator[Answer | ImageError]:
        """`predict` with files one after the other; a file that cannot be decoded yields its error."""
        for path in paths:
            try:
                yield self.predict_file(path, gated=gated)
            except ImageError as error:
                yield error


class Classifier(Predictor):
    """An open artifact. Threads may share it: it computes one image at a time, and each caller gets its own result.

    Args:
        bundle: a loaded bundle, or its path; the device's policy is enforced either way
            (`edge_runtime.bundle.trust`).
        artifact: name; None takes the first whose interpreter is installed.
        threads: for the interpreter; None takes `edge_runtime.backends.default_threads`.

    Raises:
        BundleError: the bundle is not sound, or the tensors of its files are not as bundle.json says.
        TrustError: the policy refuses the bundle.
        UsageError: the bundle has no such artifact.
        MissingExtraError: its interpreter is not installed.
        ModelError: the interpreter refuses a file.
    """

    def __init__(
        self, bundle: Bundle | str | Path, artifact: str | None = None, *, threads: int | None = None
    ) -> None:
        self.bundle = trusted(bundle) if isinstance(bundle, Bundle) else load_trusted(bundle)
        self.artifact = self.bundle.artifact(artifact) if artifact else first_runnable(self.bundle)
        if len(self.bundle.labels) != 2:
            raise BundleError(f"This version runs binary classifiers. Labels: {self.bundle.labels}.")
        runtime = self.artifact.runtime
        self.backbone = open_model(self.bundle.path / self.artifact.backbone, runtime, threads=threads)
        # The head is a few small matrix products: a second thread would cost more than it saves.
        self.head = open_model(self.bundle.path / self.artifact.head, runtime, threads=1)
        self.input_size = (self.bundle.input.height, self.bundle.input.width)
        # An interpreter has one set of tensors: no other thread may touch it between set, invoke and get.
        self._lock = threading.Lock()
        self._check_tensors()

    @property
    def models(self) -> dict[str, Classifier]:
        """The models that can give an answer, as `Prediction.artifact` names them: this one."""
        return {self.artifact.name: self}

    def deciding_model(self, prediction: Prediction | Answer) -> Classifier:
        """The model that gave an answer: this one (see `edge_runtime.model.cascade`)."""
        return self

    @cached_property
    def gate(self) -> Gate | None:
        """The gate of this artifact; None if the bundle has none.

        Raises:
            BundleError: domain.npz does not fit the bundle.
        """
        return load_gate(self.bundle, self.artifact.name)

    @property
    def gated(self) -> bool:
        """Whether a gate judges every image."""
        return self.gate is not None

    def explain_prepared(
        self,
        model_input: Float32Array,
        image: UInt8Image,
        *,
        name: str = "",
        decode_ms: float = 0.0,
        resize_ms: float = 0.0,
    ) -> tuple[Prediction, dict[str, Float32Array]]:
        """See `Predictor.explain_prepared`; ``image`` is not used."""
        with self._lock:
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
        with self._lock:
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
    """The first artifact in the bundle's order whose interpreter is installed here.

    Raises:
        MissingExtraError: there is none.
    """
    for artifact in bundle.artifacts:
        if is_available(artifact.runtime):
            return artifact
    names = ", ".join(f"{a.name} ({a.runtime})" for a in bundle.artifacts)
    runtime = bundle.artifacts[0].runtime
    raise MissingExtraError(
        f"An interpreter for any artifact of this bundle, {names},", extra_of(runtime), no_wheel(runtime)
    )


def timed_image(path: str | Path, frame: int | None = None) -> tuple[UInt8Image, float]:
    """A decoded image file, and the milliseconds that decoding took; see `read_image` for ``frame`` and errors."""
    start = perf_counter()
    image = read_image(path, frame=frame)
    return image, _since(start)


def preprocess_file(path: str | Path, size: tuple[int, int]) -> Float32Array:
    """Decode and resize an image file: float32 (1, height, width, 3), 0–255."""
    return to_input(read_image(path), size)


def _since(start: float) -> float:
    return 1e3 * (perf_counter() - start)
