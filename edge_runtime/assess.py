"""From numbers to plain words, the same on the page, in a stream and in DICOM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_runtime.bundle import Bundle
from edge_runtime.domain import Domain
from edge_runtime.image import UInt8Image

NOT_B_MODE = frozenset({"flat", "colour", "speckle"})
"""Hints (see `edge_runtime.quality`) that speak against a B-mode picture: no verdict, whatever the probability."""
SHAVE = 0.04
"""The part of width and height that a shifted view leaves out."""


@dataclass(frozen=True)
class Band:
    """Smallest and largest probability over ``views`` slightly shifted crops of one frame.

    It says how much the answer hangs on the framing, measured on this very image; it is not a confidence
    interval of the diagnosis.
    """

    low: float
    high: float
    views: int


@dataclass(frozen=True)
class Assessment:
    """``code`` is ``suspicious``, ``not_suspicious``, ``uncertain`` or ``refused``; ``text`` says it in words."""

    code: str
    text: str


def shifted_views(image: UInt8Image, count: int) -> list[UInt8Image]:
    """Up to eight crops that lack 4 % of width and height: at the corners first, then at the sides."""
    height, width = image.shape[:2]
    dy, dx = max(1, round(SHAVE * height)), max(1, round(SHAVE * width))
    if dy >= height or dx >= width:
        return []
    places = [(0, 0), (dy, dx), (0, dx), (dy, 0), (0, dx // 2), (dy, dx // 2), (dy // 2, 0), (dy // 2, dx)]
    return [image[y : y + height - dy, x : x + width - dx] for y, x in places[:count]]


def band_of(probabilities: Sequence[float]) -> Band | None:
    """The band over several views; None for a single one."""
    if len(probabilities) < 2:
        return None
    return Band(min(probabilities), max(probabilities), len(probabilities))


def assess(
    bundle: Bundle,
    probability: float,
    threshold: float,
    band: Band | None,
    domain: Domain | None,
    hints: Sequence[Mapping[str, str]] = (),
) -> Assessment:
    """The verdict in words: refused before uncertain before the side of the threshold.

    Two weak signs against a picture are together a strong one: unlike the training images, and not grey speckle.
    """
    if domain is not None and not domain.inside:
        return Assessment(
            "refused", "No assessment: this is not like the images the model was trained on. Check the picture."
        )
    unusual = domain is not None and not domain.usual
    if any(hint["code"] in NOT_B_MODE for hint in hints):
        if unusual:
            return Assessment("refused", "No assessment: this does not look like a grey ultrasound picture.")
        return Assessment("uncertain", "Uncertain – look again: this does not look like a grey ultrasound picture.")
    if unusual:
        return Assessment(
            "uncertain",
            "Uncertain – unlike the training images (another scanner or setting?): not validated there.",
        )
    if band is not None and band.low < threshold <= band.high:
        return Assessment(
            "uncertain", "Uncertain – look again: a slightly shifted view of this frame changes the answer."
        )
    if probability >= threshold:
        return Assessment("suspicious", f"Suspicious: the model reads this frame as {bundle.positive_label}.")
    return Assessment("not_suspicious", f"Not suspicious: the model reads this frame as {bundle.negative_label}.")
