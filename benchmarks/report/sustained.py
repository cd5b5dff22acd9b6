"""``sustained.html``: latency, temperature and clock over the minutes of a sustained run, as pictures."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sonoedge.benchmarks.records.sustained import Sustained
from sonoedge.benchmarks.report.html import render
from sonoedge.benchmarks.report.svg import DASHES, Drawing, Scale

SUSTAINED_PAGE = "sustained.html"
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 58, 62, 12, 44

Line = tuple[str, Sequence[tuple[float, float]]]
"""A name and the points (seconds, value)."""


def sustained_page(runs: Sequence[Sustained]) -> str:
    """The whole page; one section for each run."""
    parts = []
    for number, run in enumerate(runs, start=1):
        title = f"{run.artifact} on {run.machine.processor}, {run.created[:10]}"
        parts.append((f"run{number}", title, run, *_drawings(run)))
    return render("sustained", navigation=[part[:2] for part in parts], parts=parts)


def _drawings(run: Sustained) -> tuple[Markup, list[str]]:
    """The pictures of a run, and what the machine did not tell."""
    latency: list[Line] = [
        (name, [(w.start_s, value) for w in run.windows if (value := getattr(w, f"{name}_ms")) is not None])
        for name in ("p50", "p90", "p99")
    ]
    heat: list[Line] = [("°C", [(m.at_s, m.temperature_c) for m in run.moments if m.temperature_c is not None])]
    clock: list[Line] = [("MHz", [(m.at_s, m.clock_mhz) for m in run.moments if m.clock_mhz is not None])]
    drawings = [
        over_time(title, axis, lines, run.whole.end_s)
        for title, axis, lines in (
            ("Latency", "latency of one frame, ms", latency),
            ("Temperature", "temperature, °C", heat),
            ("Clock", "processor clock, MHz", clock),
        )
        if any(points for _, points in lines)
    ]
    unknown = [name for name, lines in (("temperature", heat), ("clock", clock)) if not lines[0][1]]
    return Markup("").join(drawings), unknown


def over_time(title: str, axis: str, lines: Sequence[Line], end_s: float) -> Markup:
    """Lines over the seconds of a run, with their names at the right."""
    values = [value for _, points in lines for _, value in points]
    room = 0.06 * (max(values) - min(values)) or 0.02 * abs(max(values)) or 1.0
    height = 240
    x = Scale(0.0, end_s, _LEFT, _WIDTH - _RIGHT)
    y = Scale(min(values) - room, max(values) + room, height - _BOTTOM, _TOP)
    told = ", ".join(f"{name} {pts[0][1]:.4g} at first, {pts[-1][1]:.4g} at last" for name, pts in lines if pts)
    drawing = Drawing(_WIDTH, height, title, f"Over {end_s:.0f} s: {told}.")
    drawing.x_axis(x, height - _BOTTOM, "seconds", top=_TOP)
    drawing.y_axis(y, _LEFT, axis, right=_WIDTH - _RIGHT)
    lowest = float(height)
    for number, (name, points) in enumerate(lines):
        if points:
            drawing.path([(x(at), y(value)) for at, value in points], "curve", number, dash=DASHES[number])
            # Names of lines that end at about the same height stand above each other.
            lowest = min(lowest - 13, y(points[-1][1]) + 4)
            drawing.text(_WIDTH - _RIGHT + 8, lowest, name, style="name")
    return drawing.render()
