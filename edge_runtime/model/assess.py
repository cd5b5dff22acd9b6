"""The only code that turns gate, picture quality, shifted views and threshold into a verdict.

The first row that applies decides:

    outside_training                       -> refused         the gate: too far from the training images
    unlike_training and not_b_mode         -> refused         two weak signs together are a strong one
    unlike_training or not_b_mode          -> uncertain
    shifted_view                           -> uncertain       only if shifted views were asked for
    probability >= threshold               -> suspicious
    else                                   -> not_suspicious

The page (``serve/assets/model/assess.js``) and the Android app follow the same table; tests compare all three with
``tests/vectors/assess.json``. In a cascade the gate of the deciding model counts. ``verify``, golden images,
exports and benchmarks look at numbers, not at verdicts: they use `Predictor.explain_raw`, which asks no gate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sonoedge.edge_runtime.bundle.contract import REASONS, Bundle
from sonoedge.edge_runtime.model.gate import GateResult
from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.edge_runtime.words import words

SUSPICIOUS, NOT_SUSPICIOUS, UNCERTAIN, REFUSED = "suspicious", "not_suspicious", "uncertain", "refused"
VERDICTS = (SUSPICIOUS, NOT_SUSPICIOUS, UNCERTAIN, REFUSED)
OUTSIDE_TRAINING, UNLIKE_TRAINING, NOT_B_MODE, SHIFTED_VIEW = REASONS
SPEAK_AGAINST_B_MODE = frozenset({"flat", "colour", "speckle"})
"""Hints (see `edge_runtime.imaging.quality`) that are the reason ``not_b_mode``."""
SHAVE = 0.04
"""The share of width and height that a shifted view leaves out."""
MAX_VIEWS = 9
"""The largest number of views: a picture and its eight shifted views."""


@dataclass(frozen=True)
class Band:
    """Smallest and largest probability over ``views`` slightly shifted crops of one picture.

    The band says how much the answer depends on the framing of this picture. It is not a confidence interval of the
    diagnosis.
    """

    low: float
    high: float
    views: int


@dataclass(frozen=True)
class Assessment:
    """The verdict on one picture.

    Attributes:
        verdict: one of `VERDICTS`.
        reasons: those of `REASONS` that apply, in that order; empty if the threshold decided.
        text: verdict and reasons in words.
    """

    verdict: str
    reasons: tuple[str, ...]
    text: str

    @property
    def refused(self) -> bool:
        """Whether the model's numbers mean nothing for this picture."""
        return self.verdict == REFUSED

    def to_json(self) -> dict[str, Any]:
        """``verdict``, ``reasons``, ``text``."""
        return {"verdict": self.verdict, "reasons": list(self.reasons), "text": self.text}


def shifted_views(image: UInt8Image, count: int) -> list[UInt8Image]:
    """``count`` crops, at most eight, of 96 % of width and height: at the corners first, then at the sides.

    ``image`` is uint8 (height, width, 3); the list is empty if the image is too small.
    """
    height, width = image.shape[:2]
    dy, dx = max(1, round(SHAVE * height)), max(1, round(SHAVE * width))
    if dy >= height or dx >= width:
        return []
    places = [(0, 0), (dy, dx), (0, dx), (dy, 0), (0, dx // 2), (dy, dx // 2), (dy // 2, 0), (dy // 2, dx)]
    return [image[y : y + height - dy, x : x + width - dx] for y, x in places[:count]]


def band_of(probabilities: Sequence[float]) -> Band | None:
    """The band of the probabilities of a picture and its shifted views; None for the picture alone."""
    if len(probabilities) < 2:
        return None
    return Band(min(probabilities), max(probabilities), len(probabilities))


def assess(
    bundle: Bundle,
    probability: float,
    threshold: float,
    *,
    gate: GateResult | None = None,
    hints: Iterable[str] = (),
    band: Band | None = None,
) -> Assessment:
    """The verdict by the table of this module.

    Args:
        bundle: for its labels.
        probability: of the positive label, 0–1.
        threshold: a picture is positive if its probability is at least this.
        gate: the gate's answer; None for a bundle without a gate.
        hints: codes of `edge_runtime.imaging.quality.hints`.
        band: over shifted views; None unless they were asked for.
    """
    reasons = []
    if gate is not None and not gate.within_limit:
        reasons.append(OUTSIDE_TRAINING)
    elif gate is not None and not gate.within_warning:
        reasons.append(UNLIKE_TRAINING)
    if not SPEAK_AGAINST_B_MODE.isdisjoint(hints):
        reasons.append(NOT_B_MODE)
    if OUTSIDE_TRAINING in reasons or len(reasons) == 2:
        return _in_words(bundle, REFUSED, tuple(reasons))
    if not reasons and band is not None and band.low < threshold <= band.high:
        reasons.append(SHIFTED_VIEW)
    if reasons:
        return _in_words(bundle, UNCERTAIN, tuple(reasons))
    return _in_words(bundle, SUSPICIOUS if probability >= threshold else NOT_SUSPICIOUS, ())


def over_time(bundle: Bundle, own: Assessment, smoothed: float, threshold: float) -> Assessment:
    """The verdict on a frame of a stream: the frame's own if it has a reason, else by the smoothed probability."""
    return own if own.reasons else assess(bundle, smoothed, threshold)


def _in_words(bundle: Bundle, verdict: str, reasons: tuple[str, ...]) -> Assessment:
    table = words()
    label = bundle.positive_label if verdict == SUSPICIOUS else bundle.negative_label
    clauses = table["and"].join(table["reasons"][reason] for reason in reasons)
    # Not str.format: a label may hold braces.
    text = table["verdicts"][verdict]["text"].replace("{reasons}", clauses).replace("{label}", label)
    return Assessment(verdict, reasons, text)
