"""Panels for the choice of a file: one recommended file for each kind of device, the front over all bundles."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sonoedge.benchmarks.report import plots
from sonoedge.benchmarks.report.choice import Pool
from sonoedge.benchmarks.report.html import panel
from sonoedge.benchmarks.report.svg import SHAPES


def choice(pools: Sequence[Pool]) -> str:
    """The panels of every pool."""
    return Markup().join(_recommended(pool) + (_front(pool) if pool.bundles > 1 else "") for pool in pools)


def where(pool: Pool) -> str:
    """Images and machine of a pool, in words."""
    return (
        f"{pool.images} images of {pool.data}, timed on {pool.machine} ({pool.cores} cores) with {pool.threads} "
        f"thread{'s' if pool.threads > 1 else ''}"
    )


def _recommended(pool: Pool) -> Markup:
    return panel("choice", "recommended", pool, where(pool))


def _front(pool: Pool) -> Markup:
    names = list(dict.fromkeys(o.bundle_digest for o in pool.options))
    colours = {o.label: names.index(o.bundle_digest) for o in pool.options}
    shapes = {o.label: SHAPES.get(o.runtime, "circle") for o in pool.options}
    points = [
        plots.Point(
            o.label, o.typical_ms, o.low_ms, o.high_ms, o.accuracy, o.front, colours[o.label], shapes[o.label]
        )
        for o in pool.options
    ]
    options = sorted(pool.options, key=lambda o: o.typical_ms)
    return panel("choice", "front", pool, where(pool), options, colours, shapes, plots.pareto(points))
