"""What every open model does: verdicts on pictures of any kind, one by one or as a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol, Self, overload

import numpy as np

from sonoedge.edge_runtime.bundle.contract import Artifact, Bundle
from sonoedge.edge_runtime.errors import ImageError, ModelError
from sonoedge.edge_runtime.explain.gradcam import Explanation
from sonoedge.edge_runtime.explain.methods.budget import Budget, check_seconds
from sonoedge.edge_runtime.explain.methods.table import GRADCAM, method_of
from sonoedge.edge_runtime.imaging.image import find_images, to_input
from sonoedge.edge_runtime.imaging.pictures import Picture, Source, milliseconds_since, open_picture
from sonoedge.edge_runtime.imaging.quality import hints, measure
from sonoedge.edge_runtime.model.assess import assess, band_of, shifted_views
from sonoedge.edge_runtime.model.explaining import Askable, explain_result
from sonoedge.edge_runtime.model.gate import Gate, features_of
from sonoedge.edge_runtime.model.result import Prediction, Result
from sonoedge.edge_runtime.types import Float32Array, UInt8Image

DECODED_AHEAD = 2
"""Pictures that `Predictor.stream` decodes before they are needed."""


class SingleModel(Askable, Protocol):
    """A model whose pictures one gate judges."""

    bundle: Bundle

    @property
    def gate(self) -> Gate | None:
        """None if the bundle has none."""


class Predictor(ABC):
    """An open model: one artifact of a bundle (`Classifier`), or two models as one (`Cascade`).

    Call it with a picture; threads may share it. In a ``with`` block, or by `close`, its memory is freed early.
    ``artifact`` is the one that answers (of a cascade the full model's); ``input_size`` is (height, width) of the
    input.
    """

    bundle: Bundle
    artifact: Artifact
    input_size: tuple[int, int]

    @property
    @abstractmethod
    def gated(self) -> bool:
        """Whether a gate judges every image."""

    @abstractmethod
    def deciding_model(self, prediction: Prediction | Result) -> SingleModel:
        """The model that gave an answer."""

    @abstractmethod
    def close(self) -> None:
        """Free the interpreters; every later call is a `UsageError`. Results stay usable."""

    @overload
    def __call__(
        self, source: Source, *, frame: int | None = ..., ungated: bool = ..., views: int = ...
    ) -> Result: ...

    @overload
    def __call__(
        self, source: list[Any] | tuple[Any, ...], *, frame: int | None = ..., ungated: bool = ..., views: int = ...
    ) -> list[Result]: ...

    def __call__(
        self,
        source: Source | list[Any] | tuple[Any, ...],
        *,
        frame: int | None = None,
        ungated: bool = False,
        views: int = 1,
    ) -> Result | list[Result]:
        """The verdict on a picture, or on each of a list.

        Args:
            source: path of a PNG, JPEG, BMP, TIFF or DICOM file; its bytes; a Pillow image; a uint8 array, grey
                (height, width) or RGB (height, width, 3); or a list of such.
            frame: number, from 1, in a file of several frames.
            ungated: give the numbers of a refused picture, too; they mean nothing.
            views: 1 to 9; above 1, ``views`` - 1 slightly shifted crops are classified, too (`Result.band`).

        Raises:
            BundleError: only one model of a cascade has a gate.
            ImageError: the picture cannot be decoded, is an array of another dtype or shape, or is a file of
                several frames and none is named.
            MissingExtraError: the file is DICOM and pydicom is not installed.
            ModelError: the model's answer is NaN or infinite.
            UsageError: ``source`` is nothing of these, or the model is closed.
        """
        if isinstance(source, list | tuple):
            return [self._result(open_picture(one, frame), ungated, views) for one in source]
        return self._result(open_picture(source, frame), ungated, views)

    def stream(
        self, sources: str | Path | Iterable[Source], *, ungated: bool = False, views: int = 1
    ) -> Iterator[Result | ImageError]:
        """The verdicts on many pictures, in their order; the next ones are decoded while one is classified.

        Args:
            sources: a folder, whose images are taken in order of their names, or what a call takes, one by one.
            ungated, views: see `__call__`.

        Yields:
            A result for each picture; for one that cannot be read its error, and the others go on.

        Raises:
            BundleError, ModelError, UsageError: see `__call__`.
        """
        found = find_images(sources) if isinstance(sources, str | Path) else sources
        pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
        waiting: deque[Future[Picture]] = deque()
        try:
            for source in found:
                waiting.append(pool.submit(open_picture, source))
                if len(waiting) > DECODED_AHEAD:
                    yield self._next(waiting, ungated, views)
            while waiting:
                yield self._next(waiting, ungated, views)
        finally:
            # The caller may leave at any time; what is not decoded yet is not wanted any more.
            pool.shutdown(cancel_futures=True)

    def _next(self, waiting: deque[Future[Picture]], ungated: bool, views: int) -> Result | ImageError:
        try:
            return self._result(waiting.popleft().result(), ungated, views)
        except ImageError as error:
            return error

    def _result(self, picture: Picture, ungated: bool, views: int) -> Result:
        result = self.predict(
            picture.image, name=picture.name, decode_ms=picture.decode_ms, ungated=ungated, views=views
        )
        return replace(result, frame=picture.frame)

    def scale_of(self, result: Result) -> tuple[float, float]:
        """Factor and offset that turn a logit of the model that decided into one of this model; see `Cascade`."""
        return 1.0, 0.0

    def explain(
        self,
        source: Source,
        *,
        method: str = GRADCAM,
        budget: float | None = None,
        label: str | None = None,
        seed: int = 0,
        frame: int | None = None,
        ungated: bool = False,
    ) -> Explanation:
        """Why a picture gets its logit, by any method of `edge_runtime.explain.methods.table`.

        Of a cascade, the model that decided is explained. Equal seeds give equal maps, unless a budget cuts them.

        Args:
            source, frame, ungated: see `__call__`.
            method: ``gradcam``, ``scorecam``, ``occlusion``, ``rise``; with the extra ``xai`` ``lime``, ``shap``.
            budget: seconds for the map; what was found until then is returned, and `Explanation.note` says so.
            label: the class to explain; None takes the predicted one.
            seed: of methods that draw at random.

        Raises:
            BundleError, ImageError, ModelError: as for a call; or the artifact was exported without explanations.
            MissingExtraError: the method needs an extra that is not installed.
            UsageError: no such method or class, a budget not above 0, or the picture is refused.
        """
        method_of(method).require()
        check_seconds(budget)
        result = self(source, frame=frame, ungated=ungated)
        decided, scale = self.deciding_model(result), self.scale_of(result)
        return explain_result(decided, result, label, scale=scale, method=method, budget=Budget(budget), seed=seed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        return self.explain_prepared(
            model_input, image, name=name, decode_ms=decode_ms, resize_ms=milliseconds_since(start)
        )

    def predict_prepared(
        self,
        model_input: Float32Array,
        image: UInt8Image,
        *,
        name: str = "",
        decode_ms: float = 0.0,
        resize_ms: float = 0.0,
        ungated: bool = False,
        views: int = 1,
    ) -> Result:
        """`predict` with a prepared input, see `explain_prepared`; quality and views are taken from ``image``."""
        if not ungated:
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
        withheld = assessment.refused and not ungated
        return Result(
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
            frame=None,
            picture=image,
            outputs=None if withheld else outputs,
            features=features,
            bundle=self.deciding_model(prediction).bundle,
        )

    def predict(
        self, image: UInt8Image, *, name: str = "", decode_ms: float = 0.0, ungated: bool = False, views: int = 1
    ) -> Result:
        """The verdict on one RGB image, uint8 (height, width, 3) of any size, with the numbers behind it.

        Args:
            image: the picture.
            name: for `Result.image`.
            decode_ms: milliseconds that decoding took, for `Result.latency_ms`.
            ungated: give the numbers of a refused image, too.
            views: 1 to 9; above 1, ``views`` - 1 slightly shifted crops are classified, too (`Result.band`).

        Raises:
            BundleError: only one model of a cascade has a gate.
            ImageError: ``image`` has another dtype or shape.
            ModelError: the model's answer is NaN or infinite.
        """
        start = perf_counter()
        model_input = to_input(image, self.input_size)
        return self.predict_prepared(
            model_input,
            image,
            name=name,
            decode_ms=decode_ms,
            resize_ms=milliseconds_since(start),
            ungated=ungated,
            views=views,
        )
