"""Draw the pictures of the concept pages: boxes and arrows, as SVG.

python scripts/website/drawings.py            # writes docs/pictures/concepts/*.svg
python scripts/website/drawings.py --check    # exit code 1 if one differs
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "concepts"
_HEIGHT, _LINE = 26, 17


@dataclass(frozen=True)
class Box:
    """Lines of text in a frame; ``x`` and ``y`` are its upper left corner in pixels."""

    x: int
    y: int
    width: int
    text: str
    fill: str = "#e0f2f1"

    @property
    def height(self) -> int:
        """Pixels: a line and a margin."""
        return _HEIGHT + _LINE * self.text.count("\n")


@dataclass(frozen=True)
class Arrow:
    """From box to box, by their numbers; a word stands at its middle."""

    start: int
    end: int
    word: str = ""


@dataclass(frozen=True)
class Drawing:
    """Title for those who cannot see it, size, boxes, arrows."""

    title: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


_BUNDLE = """bundle.json: threshold, labels
backbone.*: picture → maps
head.*: maps → logit, heat map
domain.npz: the gate
golden.npz: what to reproduce
SHA256SUMS, signature"""
PLAIN, WARM = "#ffffff", "#fff3e0"
DRAWINGS = {
    "bundle": Drawing(
        "A run is exported to a bundle; the same bundle goes to the Raspberry Pi, to Android and to the browser.",
        640, 190,
        (
            Box(10, 80, 80, "run", PLAIN),
            Box(170, 20, 220, _BUNDLE),
            Box(480, 20, 140, "Raspberry Pi", WARM),
            Box(480, 80, 140, "Android", WARM),
            Box(480, 140, 140, "browser", WARM),
        ),
        (Arrow(0, 1, "export"), Arrow(1, 2), Arrow(1, 3), Arrow(1, 4)),
    ),
    "guard": Drawing(
        "The guard tries all int8, then one remedy after the other, until decisions are kept.",
        760, 150,
        (
            Box(10, 20, 70, "all int8"),
            Box(120, 20, 130, "a branch in float"),
            Box(290, 20, 170, "weights rounded again"),
            Box(500, 20, 130, "layers in float"),
            Box(680, 20, 70, "refused", WARM),
            Box(200, 100, 330, "taken: as fast as can be, decides as float32", PLAIN),
        ),
        (
            Arrow(0, 1, "no"), Arrow(1, 2, "no"), Arrow(2, 3, "no"), Arrow(3, 4, "no"),
            Arrow(0, 5, "kept"), Arrow(1, 5), Arrow(2, 5), Arrow(3, 5),
        ),
    ),
    "grad-cam": Drawing(
        "The backbone turns the picture into maps; the head turns these into logit and heat map at once.",
        640, 130,
        (
            Box(10, 50, 80, "picture", PLAIN),
            Box(130, 41, 130, "backbone\n(int8 or float)"),
            Box(310, 50, 80, "maps", PLAIN),
            Box(430, 41, 90, "head\n(float)"),
            Box(550, 20, 80, "logit", WARM),
            Box(550, 80, 80, "heat map", WARM),
        ),
        (Arrow(0, 1), Arrow(1, 2), Arrow(2, 3), Arrow(3, 4), Arrow(3, 5)),
    ),
    "splits": Drawing(
        "A split by picture puts copies of a picture on both sides; a split by group keeps them together.",
        620, 170,
        (
            Box(10, 10, 290, "by picture: copies on both sides", PLAIN),
            Box(10, 60, 135, "training\nA1  B1  C1"),
            Box(165, 60, 135, "test\nA2  B2  D1", WARM),
            Box(320, 10, 290, "by group: nothing on both sides", PLAIN),
            Box(320, 60, 135, "training\nA1  A2  B1  B2"),
            Box(475, 60, 135, "test\nC1  D1", WARM),
            Box(10, 125, 290, "test measures memory", "#ffebee"),
            Box(320, 125, 290, "test measures new patients", "#e8f5e9"),
        ),
        (),
    ),
    "statistics": Drawing(
        "A verdict is PASS if the whole interval is within the budget, FAIL if it is outside, else INCONCLUSIVE.",
        620, 150,
        (
            Box(10, 20, 250, "interval within the budget"),
            Box(10, 62, 250, "interval across the limit"),
            Box(10, 104, 250, "interval outside"),
            Box(380, 20, 220, "PASS", "#e8f5e9"),
            Box(380, 62, 220, "INCONCLUSIVE: more groups", WARM),
            Box(380, 104, 220, "FAIL", "#ffebee"),
        ),
        (Arrow(0, 3), Arrow(1, 4), Arrow(2, 5)),
    ),
    "cascade": Drawing(
        "The small model answers if its estimate is far from the threshold; otherwise the full model does.",
        640, 130,
        (
            Box(10, 50, 80, "picture", PLAIN),
            Box(130, 50, 110, "small model"),
            Box(290, 41, 150, "estimate far from\nthe threshold?", PLAIN),
            Box(530, 20, 100, "its answer", WARM),
            Box(530, 84, 100, "full model"),
        ),
        (Arrow(0, 1), Arrow(1, 2), Arrow(2, 3, "yes"), Arrow(2, 4, "no")),
    ),
}  # fmt: skip


def svg(drawing: Drawing) -> str:
    """The picture; its background is white, so that it can be read on a dark page."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {drawing.width} {drawing.height}" '
        f'width="{drawing.width}" height="{drawing.height}" role="img" font-family="sans-serif" font-size="13">',
        f"<title>{escape(drawing.title)}</title>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#455a64"/></marker></defs>',
        f'<rect width="{drawing.width}" height="{drawing.height}" fill="#ffffff"/>',
    ]
    parts += [_arrow(drawing.boxes[arrow.start], drawing.boxes[arrow.end], arrow.word) for arrow in drawing.arrows]
    parts += [_box(box) for box in drawing.boxes]
    return "\n".join([*parts, "</svg>", ""])


def _box(box: Box) -> str:
    lines = "".join(
        _text(box.x + box.width / 2, box.y + 18 + _LINE * number, line)
        for number, line in enumerate(box.text.split("\n"))
    )
    frame = f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="5" fill="{box.fill}"'
    return f'{frame} stroke="#455a64"/>{lines}'


def _arrow(start: Box, end: Box, word: str) -> str:
    """From the right edge to the left one; down from the lower edge if the end lies below."""
    if end.x >= start.x + start.width:
        x1, y1, x2, y2 = start.x + start.width, start.y + start.height / 2, end.x, end.y + end.height / 2
    else:
        x1, y1 = start.x + start.width / 2, start.y + start.height
        x2, y2 = min(max(x1, end.x + 20), end.x + end.width - 20), float(end.y)
    line = f'<path d="M{x1:g} {y1:g} {x2:g} {y2:g}" stroke="#455a64" fill="none" marker-end="url(#a)"/>'
    return line + (_text((x1 + x2) / 2, (y1 + y2) / 2 - 5, word) if word else "")


def _text(x: float, y: float, words: str) -> str:
    """Words with their middle at ``x`` and their foot at ``y``."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="#102027">{escape(words)}</text>'


def main() -> int:
    """Write the pictures, or say which differ."""
    check = "--check" in sys.argv[1:]
    FOLDER.mkdir(parents=True, exist_ok=True)
    stale = []
    for name, drawing in DRAWINGS.items():
        path, text = FOLDER / f"{name}.svg", svg(drawing)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not check:
                path.write_text(text, encoding="utf-8")
    print("\n".join(f"{'differs' if check else 'wrote'}: {name}" for name in stale), end="\n" if stale else "")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
