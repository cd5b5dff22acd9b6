"""Frames -> results: crop, classify, assess, smooth over time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

from sonoedge.edge_runtime.explain.caption import captioned
from sonoedge.edge_runtime.explain.gradcam import heat_map, overlay
from sonoedge.edge_runtime.imaging.region import detect_region
from sonoedge.edge_runtime.model.assess import Assessment, over_time
from sonoedge.edge_runtime.model.predictor import Predictor
from sonoedge.edge_runtime.model.result import Result
from sonoedge.edge_runtime.stream.frames import Frame, Source, newest
from sonoedge.edge_runtime.stream.smoothing import DEFAULT_SECONDS, Recent, Smoother
from sonoedge.edge_runtime.types import Region, UInt8Image


@dataclass(frozen=True)
class FrameResult:
    """The answer to one frame.

    Attributes:
        frame, seconds: number of the frame, from 1, and the time at which it was shown.
        answer: to this frame alone.
        smoothed: probability after the temporal filter; None if the frame's numbers are withheld.
        recent: range of the frames' own probabilities over the last three time constants; None if withheld, or for
            a single frame.
        assessment: the frame's own if it has a reason, else by ``smoothed``.
        dropped: frames overtaken so far.
        total_ms: milliseconds from taking the frame to this answer, everything included.
    """

    frame: int
    seconds: float
    answer: Result
    smoothed: float | None
    recent: Recent | None
    assessment: Assessment
    dropped: int
    total_ms: float

    def to_json(self) -> dict[str, Any]:
        """One line of ``sonoedge stream --json``."""
        own = self.answer.to_json()
        del own["image"]
        return {
            "frame": self.frame,
            "seconds": round(self.seconds, 4),
            **own,
            **self.assessment.to_json(),
            "smoothed": self.smoothed,
            "recent": asdict(self.recent) if self.recent else None,
            "band": asdict(self.answer.band) if self.answer.band else None,
            "dropped": self.dropped,
            "total_ms": round(self.total_ms, 3),
        }


class FrameStream:
    """Runs a source through a model.

    Args:
        model: open.
        source: see `edge_runtime.stream.frames`; from a live source only the newest frame is taken.
        crop: ``none``, ``auto``, or a rectangle. ``auto`` takes the region that the source states, else detects one
            on the first frame and keeps it, so that the picture does not jitter.
        smooth_seconds: time constant of the filter; 0 switches it off. Refused frames do not change the filter.
        ungated: give the numbers of refused frames, too.
        views: 1 to 9; above 1, ``views`` - 1 slightly shifted crops of each frame are classified, too.

    Attributes:
        dropped: number of live frames that were overtaken.
        unreadable: number of frames that could not be decoded.
        region: the crop in use.
        first: the first frame, uncropped.

    Raises:
        BundleError: only one model of a cascade has a gate.
    """

    def __init__(
        self,
        model: Predictor,
        source: Source,
        *,
        crop: str | Region = "none",
        smooth_seconds: float = DEFAULT_SECONDS,
        ungated: bool = False,
        views: int = 1,
    ) -> None:
        self._model, self._source, self._crop = model, source, crop
        if not ungated:
            _ = model.gated  # raises if only one model of a cascade has a gate
        self._ungated, self._views = ungated, views
        self._smoother = Smoother(smooth_seconds)
        self.dropped = self.unreadable = 0
        self.region: Region | None = None
        self.first: UInt8Image | None = None

    def __iter__(self) -> Iterator[FrameResult]:
        frames = newest(self._source, self._count_dropped) if self._source.live else self._source.frames()
        for frame in frames:
            if frame.image is None:
                self.unreadable += 1
                continue
            yield self._answer(frame, frame.image)

    def _count_dropped(self, amount: int) -> None:
        self.dropped += amount

    def _answer(self, frame: Frame, image: UInt8Image) -> FrameResult:
        start = perf_counter()
        if self.first is None:
            self.first, self.region = image, self._choose_region(image)
        part = self.region.crop(image) if self.region else image
        if not part.size:
            # The frame is smaller than the first one, and the rectangle lies outside.
            part = image
        answer = self._model.predict(part, name=f"frame {frame.number}", ungated=self._ungated, views=self._views)
        smoothed, recent, assessment = None, None, answer.assessment
        if answer.logit is not None:
            smoothed, recent = self._smoother.add(answer.logit, frame.seconds)
            assessment = over_time(self._model.bundle, assessment, smoothed, answer.threshold)
        return FrameResult(
            frame=frame.number,
            seconds=frame.seconds,
            answer=answer,
            smoothed=smoothed,
            recent=recent,
            assessment=assessment,
            dropped=self.dropped,
            total_ms=1e3 * (perf_counter() - start),
        )

    def _choose_region(self, image: UInt8Image) -> Region | None:
        if isinstance(self._crop, Region):
            height, width = image.shape[:2]
            return replace(self._crop, right=min(self._crop.right, width), bottom=min(self._crop.bottom, height))
        if self._crop == "auto":
            return self._source.region or detect_region(image)
        return None


def annotate(result: FrameResult) -> UInt8Image:
    """The frame with its heat map for the positive class and two lines of text: uint8 (height + 36, width, 3).

    A refused frame has no heat map and no number.
    """
    label = result.answer.bundle.positive_label
    picture, number = result.answer.picture, ""
    if result.answer.outputs is not None:
        heat = heat_map(result.answer.explain(label).cam, picture.shape[:2])
        picture, number = overlay(picture, heat), f"  p({label})={result.smoothed:.3f}"
    return captioned(picture, result.assessment.verdict + number, f"frame {result.frame}  research use only")
