"""Panels for the choice of a file: one recommended file for each kind of device, the front over all bundles."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sonoedge.benchmarks.report import plots
from sonoedge.benchmarks.report.choice import Option, Pool, Recommendation
from sonoedge.benchmarks.report.html import Cell, block, interval_cell, number_cell, table, text_cell
from sonoedge.benchmarks.report.panels.common import tag
from sonoedge.benchmarks.report.svg import SHAPES, key
from sonoedge.benchmarks.retention.wording import megabytes, milliseconds, percent


def choice(pools: Sequence[Pool]) -> str:
    """The panels of every pool."""
    return "".join(_recommended(pool) + (_front(pool) if pool.bundles > 1 else "") for pool in pools)


def where(pool: Pool) -> str:
    """Images and machine of a pool, in words."""
    return (
        f"{pool.images} images of {pool.data}, timed on {pool.machine} ({pool.cores} cores) with {pool.threads} "
        f"thread{'s' if pool.threads > 1 else ''}"
    )


def _recommended(pool: Pool) -> str:
    cards = "".join(map(_card, pool.recommendations))
    return (
        "<h3>Which file for which device</h3>"
        f'<p class="note">By {escape(where(pool))}; held against the {escape(pool.reference)}. A file is '
        "recommended by what these images show; the verdict says whether the interval confirms it. An estimate "
        "counts multiply-adds and assumes that kernels reach 25 to 60 % of the processor's peak: measure on the "
        f'device before you rely on it.</p><div class="cards devices">{cards}</div>'
    )


def _card(r: Recommendation) -> str:
    figures = [(r.label or "no file", "file")]
    kind = ""
    if r.low_ms is not None and r.high_ms is not None:
        kind = tag("measured", "PASS") if r.measured else tag("estimate", "INCONCLUSIVE")
        how = "one frame, measured" if r.measured else "one frame, estimated"
        figures.append((f"{milliseconds(r.low_ms)}–{milliseconds(r.high_ms)} ms", how))
    big = "".join(f"<div><b>{escape(value)}</b><span>{what}</span></div>" for value, what in figures)
    reasons = "".join(f"<li>{escape(part[:1].upper() + part[1:])}</li>" for part in r.reasons)
    return (
        f'<article class="card"><h3>{escape(r.device)} {kind}</h3><div class="big">{big}</div>'
        f'<ul class="why">{reasons}</ul></article>'
    )


def _front(pool: Pool) -> str:
    names = list(dict.fromkeys(o.bundle_digest for o in pool.options))
    colours = {o.label: names.index(o.bundle_digest) for o in pool.options}
    points = [
        plots.Point(
            o.label, o.typical_ms, o.low_ms, o.high_ms, o.accuracy, o.front, colours[o.label], _shape(o)
        )
        for o in pool.options
    ]  # fmt: skip
    lines = [
        [
            Cell(key(_shape(o), colours[o.label]) + text_cell(o.label).content, o.label),
            number_cell(o.typical_ms, milliseconds),
            number_cell(o.size_bytes, megabytes),
            interval_cell(o.accuracy),
            interval_cell(o.auc),
            number_cell(o.kept.accuracy_kept if o.kept else None, percent),
            interval_cell(o.kept.auc_difference, "+.4f") if o.kept else Cell("–"),
            number_cell(o.kept.flips.total if o.kept else None, "d"),
            Cell("yes" if o.front else "", int(o.front)),
        ]
        for o in sorted(pool.options, key=lambda o: o.typical_ms)
    ]
    heads = ["file", "ms", "MB", "accuracy", "AUC", "accuracy kept", "AUC difference", "flips", "front"]
    return block(
        "All bundles on one front",
        f"{where(pool)}; differences and flips against the {pool.reference}, image by image. A colour is a bundle; "
        "grey: something else is at least as accurate and faster. The runs were made one after the other: a few "
        "per cent between bundles are the machine's.",
        f'<figure class="alone">{plots.pareto(points)}</figure>{table(heads, lines, "All bundles")}',
    )


def _shape(option: Option) -> str:
    return SHAPES.get(option.runtime, "circle")
