"""One artifact of a bundle, open: image -> logit, probability and maps."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

from sonoedge.edge_runtime.backends import Runner, extra_of, is_available, no_wheel, open_model
from sonoedge.edge_runtime.bundle.contract import Artifact, Bundle
from sonoedge.edge_runtime.bundle.trust import load_trusted, trusted
from sonoedge.edge_runtime.errors import BundleError, MissingExtraError, UsageError
from sonoedge.edge_runtime.imaging.image import read_image, to_input
from sonoedge.edge_runtime.model.gate import Gate, load_gate
from sonoedge.edge_runtime.model.predictor import Predictor
from sonoedge.edge_runtime.model.result import Prediction, Result
from sonoedge.edge_runtime.types import Float32Array, UInt8Image


class _Closed:
    """In place of an interpreter, once its model is closed."""

    input_shapes: dict[str, tuple[int, ...]] = {}  # noqa: RUF012
    output_shapes: dict[str, tuple[int, ...]] = {}  # noqa: RUF012
    dtypes = ("", "")
    device: dict[str, Any] = {}  # noqa: RUF012

    def run(self, inputs: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
        raise UsageError("This model is closed: open its bundle again with sonoedge.load().")


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
        self.backbone: Runner = open_model(self.bundle.path / self.artifact.backbone, runtime, threads=threads)
        # The head is a few small matrix products: a second thread would cost more than it saves.
        self.head: Runner = open_model(self.bundle.path / self.artifact.head, runtime, threads=1)
        self.input_size = (self.bundle.input.height, self.bundle.input.width)
        # An interpreter has one set of tensors: no other thread may touch it between set, invoke and get.
        self._lock = threading.Lock()
        self._check_tensors()

    def close(self) -> None:
        """Free the interpreters; every later call is a `UsageError`."""
        with self._lock:
            self.backbone = self.head = _Closed()

    @property
    def models(self) -> dict[str, Classifier]:
        """The models that can give an answer, as `Prediction.artifact` names them: this one."""
        return {self.artifact.name: self}

    def deciding_model(self, prediction: Prediction | Result) -> Classifier:
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

    def logit_of_maps(self, maps: Mapping[str, Float32Array]) -> float:
        """The logit of feature maps by branch, float32 (1, h, w, C): the head runs, the backbone does not."""
        with self._lock:
            return float(self.head.run(maps)["logit"].reshape(()))

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
        stored = (self.artifact.input_dtype, self.artifact.output_dtype)
        if self.backbone.dtypes != stored:
            raise BundleError(
                f"{self.artifact.name}: bundle.json says that the backbone's inputs and outputs are {stored}. "
                f"Received: {self.backbone.dtypes}."
            )
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


def preprocess_file(path: str | Path, size: tuple[int, int]) -> Float32Array:
    """Decode and resize an image file: float32 (1, height, width, 3), 0–255."""
    return to_input(read_image(path), size)
