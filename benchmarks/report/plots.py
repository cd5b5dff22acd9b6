"""The plots of the report, each as one SVG element; the page puts the numbers beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sonoedge.benchmarks.report.svg import DASHES, SHAPES, Drawing, Scale, place_labels
from sonoedge.benchmarks.retention.results import Result, Row
from sonoedge.benchmarks.retention.wording import megabytes, milliseconds
from sonoedge.train.evaluation.intervals import Interval

Colours = Mapping[str, int]
"""The number of the colour of each candidate."""
_WIDE = 420
_NAME = 62
"""The number of characters of a name that fit across a drawing."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 44


def shape_of(result: Result, name: str) -> str:
    """The shape of a candidate's marker; it depends on the runtime."""
    return SHAPES.get(result.run.candidate(name).runtime, "circle")


@dataclass(frozen=True)
class Point:
    """One candidate in the plane of latency and accuracy; ``front``: no other candidate beats it."""

    name: str
    typical_ms: float
    low_ms: float
    high_ms: float
    accuracy: Interval
    front: bool
    colour: int
    shape: str


def pareto(points: Sequence[Point]) -> Markup:
    """Accuracy against latency, both with intervals, and the front; candidates that are not on it are grey."""
    width, height = _WIDE, 360
    # Draw the front last, over the others.
    ordered = sorted(points, key=lambda p: p.front)
    x, y = _axes(
        [p.low_ms for p in points] + [p.high_ms for p in points],
        [p.accuracy.low for p in points] + [p.accuracy.high for p in points],
        (_LEFT, width - _RIGHT), (height - _BOTTOM, _TOP),
    )  # fmt: skip
    best = ", ".join(p.name for p in points if p.front)
    drawing = Drawing(
        width, height, "Accuracy against latency",
        f"{len(points)} candidates; left and up is better. On the front: {best}. All others are grey.",
    )  # fmt: skip
    drawing.x_axis(x, height - _BOTTOM, "latency of one frame, ms" + (" (logarithmic)" if x.log else ""), top=_TOP)
    drawing.y_axis(y, _LEFT, "accuracy", ".0%", right=width - _RIGHT)
    for p in ordered:
        a, colour, style = p.accuracy, p.colour if p.front else None, "whisker" if p.front else "whisker dim"
        drawing.line(x(p.typical_ms), y(a.low), x(p.typical_ms), y(a.high), style, colour)
        drawing.line(x(p.low_ms), y(a.value), x(p.high_ms), y(a.value), style, colour)
    steps: list[tuple[float, float]] = []
    for ms, value in sorted((p.typical_ms, p.accuracy.value) for p in points if p.front):
        if steps:
            steps.append((x(ms), steps[-1][1]))
        steps.append((x(ms), y(value)))
    if len(steps) > 1:
        drawing.path(steps, "front")
    spots = [(x(p.typical_ms), y(p.accuracy.value)) for p in ordered]
    widths = [6.3 * len(p.name) + 4 for p in ordered]
    labels = place_labels(spots, widths, (_LEFT + 4, _TOP, width - 2, height - _BOTTOM - 4))
    for p, (px, py), (lx, ly) in zip(ordered, spots, labels, strict=True):
        near = (min(max(px, lx), lx + 6.3 * len(p.name)), min(max(py, ly - 9), ly + 1))
        if math.hypot(near[0] - px, near[1] - py) > 14:
            drawing.line(px, py, *near, "leader")
        a = p.accuracy
        tip = f"{p.name}: {a.value:.1%} [{a.low:.1%}, {a.high:.1%}], {milliseconds(p.typical_ms)} ms"
        drawing.marker(px, py, p.shape, p.colour, tip, dim=not p.front)
    for p, (lx, ly) in zip(ordered, labels, strict=True):
        drawing.text(lx, ly, p.name, style="name front-name" if p.front else "name dim")
    return drawing.render()


def bars(result: Result, rows: Sequence[Row], colours: Colours) -> Markup:
    """Bytes on disk and peak memory of each candidate's process."""
    step, height = 46, 46 * len(rows) + _BOTTOM + 6
    most = max([max(row.size_bytes, row.peak_bytes or 0) for row in rows], default=1) / 1e6
    x = Scale(0, most * 1.12, 4, _WIDE - 60)
    drawing = Drawing(
        _WIDE, height, "Size and memory",
        f"Upper bar: file size, lower bar: peak memory of a fresh process, for {len(rows)} candidates.",
    )  # fmt: skip
    drawing.x_axis(x, height - _BOTTOM, "megabytes (upper bar: files; lower, pale bar: peak memory)", top=4)
    for i, row in enumerate(rows):
        top = 4 + i * step
        drawing.text(5, top + 11, row.name, style="name")
        drawing.rect(x(0), top + 15, x(row.size_bytes / 1e6) - x(0), 11, "bar", colours[row.name])
        drawing.text(x(row.size_bytes / 1e6) + 5, top + 24.5, f"{megabytes(row.size_bytes)} MB", style="tick")
        if row.peak_bytes:
            base = result.run.candidate(row.name).base_bytes or 0
            drawing.rect(x(0), top + 28, x(row.peak_bytes / 1e6) - x(0), 11, "bar pale", colours[row.name])
            drawing.line(x(base / 1e6), top + 28, x(base / 1e6), top + 39, "axis")
            drawing.text(x(row.peak_bytes / 1e6) + 5, top + 37.5, f"{megabytes(row.peak_bytes)} MB", style="tick")
    return drawing.render()


@dataclass(frozen=True)
class Curve:
    """A ROC curve: false and true positive rates of its corners (empty for a single class), and the metrics."""

    name: str
    colour: int
    corners: Sequence[Iterable[float]]
    metrics: Mapping[str, Interval]


def roc(curves: Sequence[Curve]) -> Markup:
    """ROC curves over each other, with the operating points."""
    areas = ", ".join(f"{curve.name} {curve.metrics['auc'].value:.3f}" for curve in curves)
    description = f"Sensitivity against 1 minus specificity. Areas: {areas}."
    drawing, x, y = _unit_square("ROC curves", description, "1 – specificity", "sensitivity")
    for i, curve in enumerate(curves):
        if curve.corners:
            points = [(x(a), y(b)) for a, b in zip(*curve.corners, strict=True)]
            drawing.path(points, "curve", curve.colour, dash=DASHES[i % len(DASHES)])
    for curve in curves:
        if curve.corners:
            at = x(1 - curve.metrics["specificity"].value), y(curve.metrics["sensitivity"].value)
            drawing.marker(*at, "circle", curve.colour, f"{curve.name}: operating point", 4)
    return drawing.render()


def reliability(rows: Sequence[Row], colours: Colours) -> Markup:
    """Observed share of positives against predicted probability, with intervals."""
    errors = ", ".join(f"{r.name} {r.scores.metrics['calibration_error'].value:.3f}" for r in rows if r.scores)
    description = f"Expected calibration error: {errors}."
    names = ("predicted probability", "observed share of positives")
    drawing, x, y = _unit_square("Reliability diagram", description, *names)
    shapes = list(SHAPES.values())
    for i, row in enumerate(rows):
        if not row.scores:
            continue
        shift = (i - (len(rows) - 1) / 2) * 5
        points = [(x(b.mean_probability) + shift, b) for b in row.scores.reliability]
        for px, b in points:
            drawing.line(px, y(b.observed.low), px, y(b.observed.high), "whisker", colours[row.name])
        drawing.path(
            [(px, y(b.observed.value)) for px, b in points], "curve", colours[row.name], dash=DASHES[i % 4]
        )
        for px, b in points:
            tip = f"{row.name}: {b.images} images, {b.observed.value:.0%} positive at {b.mean_probability:.2f}"
            drawing.marker(px, y(b.observed.value), shapes[i % 4], colours[row.name], tip, 4)
    return drawing.render()


def distribution(result: Result, rows: Sequence[Row], colours: Colours) -> Markup:
    """A histogram of every candidate's queries, one row each, with marks at median and 90th percentile."""
    step, bins = 40, 60
    timings = [(row, row.speed, result.run.candidate(row.name).timing) for row in rows]
    timed = [(row, s, t.samples_ms) for row, s, t in timings if s and t]
    height = step * len(timed) + _BOTTOM + 12
    low = min(min(ms) for _, _, ms in timed)
    # A single pause of the machine must not squeeze the histogram: the slowest 1 % is drawn at the edge.
    high = max(sorted(ms)[min(len(ms) - 1, math.ceil(0.99 * len(ms)) - 1)] for _, _, ms in timed)
    x = Scale(low * 0.95, high * 1.05, 8, _WIDE - 14, log=high > 3 * low)
    drawing = Drawing(
        _WIDE, height, "Latency distribution",
        f"Histogram of single queries for {len(timed)} candidates; long mark: median, short mark: 90th percentile.",
    )  # fmt: skip
    drawing.x_axis(x, height - _BOTTOM, "latency of one frame, ms" + (" (logarithmic)" if x.log else ""), top=6)
    for i, (row, s, samples) in enumerate(timed):
        base = 6 + (i + 1) * step
        counts = [0] * bins
        for ms in samples:
            counts[min(bins - 1, int((x(ms) - x.start) / (x.end - x.start) * bins))] += 1
        top = max(counts)
        edges = [x.start + (x.end - x.start) * k / bins for k in range(bins + 1)]
        points = [(edges[0], float(base))]
        for k, count in enumerate(counts):
            y = round(base - 22 * count / top, 2)
            points += [(round(edges[k], 1), y), (round(edges[k + 1], 1), y)]
        drawing.path([*points, (edges[-1], float(base))], "area", colours[row.name], closed=True)
        drawing.line(x.start, base, x.end, base)
        drawing.line(x(s.typical_ms), base - 24, x(s.typical_ms), base, "median")
        if s.p90_ms is not None:
            drawing.line(x(s.p90_ms), base - 10, x(s.p90_ms), base, "median")
        right = x(s.typical_ms) < _WIDE / 2
        drawing.text(x.end if right else x.start, base - 14, row.name, "end" if right else "start", "name")
    return drawing.render()


def scaling(rows: Sequence[Row], colours: Colours, shapes: Mapping[str, str]) -> Markup:
    """Median latency by number of threads."""
    width, height = _WIDE, 300
    counts = sorted({s.threads for row in rows for s in row.sweep})
    values = [s.typical_ms for row in rows for s in row.sweep]
    x = Scale(0, len(counts) - 1 or 1, _LEFT + 16, width - 112)
    y = Scale(min(values) * 0.85, max(values) * 1.1, height - _BOTTOM, _TOP, log=max(values) > 3 * min(values))
    drawing = Drawing(
        width, height, "Thread scaling", f"Median latency of {len(rows)} artifacts with {counts} threads."
    )
    drawing.y_axis(y, _LEFT, "median latency, ms" + (" (logarithmic)" if y.log else ""), right=width - 108)
    for i, count in enumerate(counts):
        drawing.text(x(i), height - _BOTTOM + 16, str(count), "middle", "tick")
    drawing.line(_LEFT, height - _BOTTOM, width - 108, height - _BOTTOM, "axis")
    drawing.text((_LEFT + width - 108) / 2, height - 11, "threads", "middle")
    ends = []
    for row in rows:
        points = [(x(counts.index(s.threads)), y(s.typical_ms), s) for s in row.sweep]
        drawing.path([(px, py) for px, py, _ in points], "curve", colours[row.name])
        for px, py, s in points:
            tip = f"{row.name}: {milliseconds(s.typical_ms)} ms, {s.threads} threads"
            drawing.marker(px, py, shapes[row.name], colours[row.name], tip, 4)
        ends.append((points[-1][1], row.name, points[-1][0]))
    for py, name, px in _spread(ends, 13, height - _BOTTOM):
        drawing.text(px + 10, py + 4, name, style="name")
    return drawing.render()


def guard_candidates(candidates: Sequence[Mapping[str, Any]]) -> Markup:
    """The guard's candidates: paired difference in accuracy on validation images, its interval and the budget."""
    step, height = 44, 44 * len(candidates) + _BOTTOM + 8
    found = [(entry, Interval(*entry["accuracy_difference"])) for entry in candidates]
    limit = -float(candidates[0]["budget"]["max_drop"])
    x = Scale(
        min([i.low for _, i in found] + [limit]) - 0.01,
        max(0.02, *(i.high for _, i in found)) + 0.01,
        24,  # room for half of a tick's label on each side
        _WIDE - 24,
    )
    drawing = Drawing(
        _WIDE, height, "Guard's candidates",
        f"{len(candidates)} quantized candidates; the dashed line is the largest drop accepted, {-limit:.1%}.",
    )  # fmt: skip
    drawing.x_axis(x, height - _BOTTOM, "accuracy minus float32's, on validation images", "+.0%", top=6)
    drawing.line(x(0), 6, x(0), height - _BOTTOM, "axis")
    drawing.path([(x(limit), 6.0), (x(limit), height - _BOTTOM)], "front")
    for i, (entry, interval) in enumerate(found):
        y = 6 + i * step + 28
        # Only the name, so that it is not cut off at the edge; the table has verdict and time.
        name = str(entry["candidate"])
        drawing.text(10, y - 13, name if len(name) <= _NAME else f"{name[: _NAME - 1]}…", style="name")
        drawing.line(x(interval.low), y, x(interval.high), y, "whisker", 0)
        drawing.marker(x(interval.value), y, "circle", 0, f"{name}: {interval.value:+.1%}, {entry['verdict']}", 5)
    return drawing.render()


def _spread(ends: list[tuple[float, str, float]], gap: float, bottom: float) -> list[tuple[float, str, float]]:
    """Labels at the ends of lines, moved apart to at least ``gap``."""
    placed: list[tuple[float, str, float]] = []
    for py, name, px in sorted(ends):
        placed.append((max(py, placed[-1][0] + gap) if placed else py, name, px))
    excess = max(0.0, placed[-1][0] - bottom) if placed else 0.0
    return [(py - excess, name, px) for py, name, px in placed]


def _unit_square(title: str, description: str, across: str, up: str) -> tuple[Drawing, Scale, Scale]:
    """A square drawing with axes from 0 to 1 and its diagonal."""
    x, y = Scale(0, 1, _LEFT, _WIDE - _RIGHT), Scale(0, 1, _WIDE - _BOTTOM, _TOP)
    drawing = Drawing(_WIDE, _WIDE, title, description)
    drawing.x_axis(x, _WIDE - _BOTTOM, across, ".1f", top=_TOP)
    drawing.y_axis(y, _LEFT, up, ".1f", right=_WIDE - _RIGHT)
    drawing.line(x(0), y(0), x(1), y(1), "chance")
    return drawing, x, y


def _axes(
    xs: Sequence[float], ys: Sequence[float], x_range: tuple[float, float], y_range: tuple[float, float]
) -> tuple[Scale, Scale]:
    log = max(xs) > 3 * min(xs)
    spread = max(xs) - min(xs) or max(xs)
    x_low, x_high = (
        (min(xs) / 1.15, max(xs) * 1.15) if log else (max(0.0, min(xs) - 0.08 * spread), max(xs) + 0.08 * spread)
    )
    room = 0.05 * (max(ys) - min(ys) or 0.1)
    return Scale(x_low, x_high, *x_range, log=log), Scale(
        max(0.0, min(ys) - room), min(1.0, max(ys) + room), *y_range
    )
