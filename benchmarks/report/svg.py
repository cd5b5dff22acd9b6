"""Small SVG drawings that follow the page: colours are CSS variables, for light, dark and print.

Every drawing has a title and a description for screen readers. Coordinates are those of the view box; text is
escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

SERIES = 8
"""Number of colours in the style sheet, ``--s0`` … ``--s7``: by Okabe and Ito, safe for colour-blind readers."""
DASHES = ("", "7 3", "2 3", "9 3 2 3")
SHAPES = {"tflite": "circle", "openvino": "square", "onnx": "triangle", "keras": "diamond"}

_CORNERS = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0, -1.15), (1.1, 0.8), (-1.1, 0.8)),
    "diamond": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
}


@dataclass(frozen=True)
class Scale:
    """Linear or logarithmic map from [low, high] to [start, end]; values outside are clipped to the ends."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, x = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, x = math.log(low), math.log(high), math.log(x)
        share = (x - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers within the range, about ``count`` of them."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
                found = [m * 10.0**d for d in decades for m in steps if self.low <= m * 10.0**d <= self.high]
                if len(found) >= 3:
                    break
            return found
        return linear_ticks(self.low, self.high, count)


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


class Drawing:
    """An SVG under construction."""

    def __init__(self, width: float, height: float, title: str, description: str) -> None:
        self.width, self.height = width, height
        self._parts = [f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"]
        self._label = escape(f"{title}. {description}", quote=True)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, style: str = "grid", colour: int | None = None
    ) -> None:
        """A line of the style sheet's class ``style``; ``colour`` is the number of a series."""
        self._parts.append(
            f'<line class="{style}"{_stroke(colour)} x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'
        )

    def path(
        self, points: Sequence[tuple[float, float]], style: str, colour: int | None = None, *, closed: bool = False,
        dash: str = "",
    ) -> None:  # fmt: skip
        """A polyline, or an area if ``closed``."""
        d = "M" + "L".join(f"{x:g} {y:g}" for x, y in points) + ("Z" if closed else "")
        paint = _fill(colour) if closed else _stroke(colour)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(f'<path class="{style}"{paint}{dashes} d="{d}"/>')

    def rect(self, x: float, y: float, width: float, height: float, style: str, colour: int | None = None) -> None:
        """A rectangle."""
        self._parts.append(
            f'<rect class="{style}"{_fill(colour)} x="{x:g}" y="{y:g}" width="{max(width, 0):g}" '
            f'height="{height:g}" rx="2"/>'
        )

    def marker(
        self, x: float, y: float, shape: str, colour: int, tip: str, radius: float = 6, *, dim: bool = False
    ) -> None:
        """A point with a tool tip; grey if ``dim``."""
        drawn = _marker(x, y, shape, colour, radius, f"<title>{escape(tip)}</title>")
        self._parts.append(f'<g class="dim">{drawn}</g>' if dim else drawn)

    def text(
        self, x: float, y: float, text: str, anchor: str = "start", style: str = "label", turn: int = 0
    ) -> None:
        """Text with its base line at ``y``, turned by ``turn`` degrees."""
        turned = f' transform="rotate({turn} {x:g} {y:g})"' if turn else ""
        self._parts.append(
            f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}"{turned}>{escape(text)}</text>'
        )

    def x_axis(self, scale: Scale, y: float, name: str, form: str = "g", top: float | None = None) -> None:
        """Ticks and a name below ``y``; grid lines up to ``top``."""
        for tick in scale.ticks():
            x = scale(tick)
            if top is not None:
                self.line(x, top, x, y)
            self.text(x, y + 16, format(tick, form), "middle", "tick")
        self.line(scale.start, y, scale.end, y, "axis")
        self.text((scale.start + scale.end) / 2, y + 35, name, "middle")

    def y_axis(self, scale: Scale, x: float, name: str, form: str = "g", right: float | None = None) -> None:
        """Ticks and a name left of ``x``; grid lines to ``right``."""
        for tick in scale.ticks():
            y = scale(tick)
            if right is not None:
                self.line(x, y, right, y)
            self.text(x - 7, y + 4, format(tick, form), "end", "tick")
        self.text(14, (scale.start + scale.end) / 2, name, "middle", turn=-90)

    def render(self) -> Markup:
        """The SVG element."""
        return Markup(
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{self._label}">'
            f"{''.join(self._parts)}</svg>"
        )


def key(shape: str, colour: int) -> Markup:
    """The marker of a candidate alone, to put before its name."""
    mark = _marker(8, 8, shape, colour, 6, "")
    return Markup(f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{mark}</svg>')


def _marker(x: float, y: float, shape: str, colour: int, radius: float, tip: str) -> str:
    """A filled marker; hollow from the ninth candidate on, because the colours repeat."""
    corners = _CORNERS.get(shape)
    if corners is None:
        form = f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}"/>'
    else:
        form = f'<path d="M{"L".join(f"{x + dx * radius:g} {y + dy * radius:g}" for dx, dy in corners)}Z"/>'
    paint = f"var(--s{colour % SERIES})"
    style = f"fill:{paint}" if colour < SERIES else f"fill:var(--card);stroke:{paint}"
    return f'<g class="mark{" hollow" if colour >= SERIES else ""}" style="{style}">{tip}{form}</g>'


def _stroke(colour: int | None) -> str:
    return "" if colour is None else f' style="stroke:var(--s{colour % SERIES})"'


def _fill(colour: int | None) -> str:
    return "" if colour is None else f' style="fill:var(--s{colour % SERIES})"'


def place_labels(
    points: Sequence[tuple[float, float]], widths: Sequence[float], box: tuple[float, float, float, float]
) -> list[tuple[float, float]]:
    """Positions (left, base line) for labels beside points, so that labels cover neither points nor each other.

    Greedy: each label gets the nearest free place on growing circles around its point.

    Args:
        points: (x, y).
        widths: of the labels.
        box: left, top, right and bottom of the area for labels.
    """
    height, taken = 12.0, [(x - 8, y - 8, x + 8, y + 8) for x, y in points]
    placed = []
    for (x, y), width in zip(points, widths, strict=True):
        best = (x + 10, y + 4)
        for radius in range(12, 240, 6):
            spots = []
            for step in range(16):
                angle = math.pi * step / 8
                cx, cy = x + radius * math.cos(angle), y + radius * math.sin(angle)
                left = cx if math.cos(angle) > 0.2 else cx - width if math.cos(angle) < -0.2 else cx - width / 2
                area = (left, cy - height / 2, left + width, cy + height / 2)
                inside = area[0] >= box[0] and area[1] >= box[1] and area[2] <= box[2] and area[3] <= box[3]
                if inside and not any(_overlap(area, other) for other in taken):
                    spots.append(area)
            if spots:
                area = spots[0]
                taken.append(area)
                best = (area[0], area[3] - 2)
                break
        placed.append(best)
    return placed


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
