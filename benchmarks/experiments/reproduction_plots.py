"""The plots of the reproduction page: the paper's Figures 4, 5, 7 and 11 from our own runs."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sonoedge.benchmarks.report import plots
from sonoedge.benchmarks.report.plots import Colours
from sonoedge.benchmarks.report.svg import DASHES, Drawing, Scale
from sonoedge.train.evaluation.metrics import roc_points
from sonoedge.train.experiments.reproduction import Unit
from sonoedge.train.experiments.systems import SYSTEMS

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 44


def bars(units: Sequence[Unit], metric: str, name: str, colours: Colours) -> Markup:
    """One bar for each system and protocol, with its interval and a mark at the published figure, if any."""
    systems = list(dict.fromkeys(unit.system for unit in units))
    width, step = 560, 46
    height = step * len(systems) + _BOTTOM + 4
    x = Scale(0, 1, 4, width - 40)
    drawing = Drawing(
        width, height, f"{name} by system",
        f"{name} of {len(systems)} systems with 95 % intervals: upper bar random split, pale bar grouped split; "
        "the dark line is the published figure.",
    )  # fmt: skip
    drawing.x_axis(x, height - _BOTTOM, f"{name} (upper bar: random split; pale bar: grouped split)", ".1f", top=4)
    for i, system in enumerate(systems):
        top = 4 + i * step
        drawing.text(6, top + 11, SYSTEMS[system].title, style="name")
        for unit in (unit for unit in units if unit.system == system):
            paper = unit.protocol == "paper"
            y, value = top + (15 if paper else 28), unit.metrics[metric]
            if value.value != value.value:
                continue
            style = "bar" if paper else "bar pale"
            drawing.rect(x(0), y, x(value.value) - x(0), 11, style, colours[system])
            drawing.line(x(value.low), y + 5.5, x(value.high), y + 5.5, "axis")
        if published := SYSTEMS[system].published.get(metric):
            drawing.line(x(published), top + 13, x(published), top + 41, "median")
    return drawing.render()


def roc(units: Sequence[Unit], colours: Colours) -> Markup:
    """ROC curves on the test images, with the operating points."""
    curves = [
        plots.Curve(SYSTEMS[u.system].title, colours[u.system], roc_points(u.y, u.logits)[:2], u.metrics)
        for u in units
    ]
    return plots.roc(curves)


def curves(unit: Unit, number: int, metric: str) -> Markup:
    """Training and validation ``loss`` or ``accuracy`` by epoch, of the unit's head ``number``."""
    history = unit.histories[number]
    series = [history[metric], history[f"val_{metric}"]]
    width, height = 420, 260
    epochs = len(series[0])
    top = 1.0 if metric == "accuracy" else 1.05 * max(max(values) for values in series)
    low = 0.98 * min(min(values) for values in series) if metric == "accuracy" else 0.0
    x = Scale(1, max(epochs, 2), _LEFT, width - _RIGHT)
    y = Scale(low, max(top, low + 1e-6), height - _BOTTOM, _TOP)
    drawing = Drawing(
        width, height, f"{metric} by epoch",
        f"Training (solid) {series[0][0]:.3f} to {series[0][-1]:.3f}, validation (dashed) {series[1][0]:.3f} to "
        f"{series[1][-1]:.3f} in {epochs} epochs.",
    )  # fmt: skip
    drawing.x_axis(x, height - _BOTTOM, "epoch", top=_TOP)
    drawing.y_axis(y, _LEFT, f"{metric}: training solid, validation dashed", ".3g", right=width - _RIGHT)
    for i, values in enumerate(series):
        points = [(x(epoch), y(value)) for epoch, value in enumerate(values, start=1)]
        drawing.path(points, "curve", i, dash=DASHES[i])
    return drawing.render()
