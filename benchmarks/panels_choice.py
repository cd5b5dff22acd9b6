"""Panels about the choice: one recommended file for each kind of device, and the front over all bundles."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import plots
from benchmarks.choice import Option, Pool, time_text
from benchmarks.html import Cell, beside, block, interval_cell, number_cell, table, text_cell
from benchmarks.panels_common import tag
from benchmarks.svg import SHAPES, key
from benchmarks.wording import megabytes, milliseconds, percent


def choice(pools: Sequence[Pool]) -> str:
    """Both panels of every pool."""
    return "".join(_recommended(pool) + (_front(pool) if pool.bundles > 1 else "") for pool in pools)


def where(pool: Pool) -> str:
    """Images and machine of a pool, in words."""
    return (
        f"{pool.images} images of {pool.data}, timed on {pool.machine} ({pool.cores} cores) with {pool.threads} "
        f"thread{'s' if pool.threads > 1 else ''}"
    )


def _recommended(pool: Pool) -> str:
    lines = []
    for r in pool.recommendations:
        known = r.low_ms is not None and r.high_ms is not None
        time = time_text(r.low_ms, r.high_ms, measured=r.measured) if known else "–"  # type: ignore[arg-type]
        kind = Cell(tag("measured" if r.measured else "estimate", "PASS" if r.measured else "INCONCLUSIVE"))
        file = text_cell(r.label or "none", words=True)
        lines.append(
            [
                text_cell(r.device),
                file,
                text_cell(time),
                kind if known else Cell("–"),
                text_cell(r.reason, words=True),
            ]
        )
    return block(
        "Which file for which device",
        f"By {where(pool)}; held against the {pool.reference}. A file is recommended by what these images show; "
        "the verdict says whether the interval confirms it. An estimate counts multiply-adds and assumes that "
        "kernels reach 25 to 60 % of the processor's peak: measure on the device before you rely on it.",
        table(["device", "file", "one frame", "", "why"], lines, "Which file for which device"),
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
            interval_cell(o.accuracy),
            interval_cell(o.auc),
            number_cell(o.kept.accuracy_kept if o.kept else None, percent),
            interval_cell(o.kept.auc_difference if o.kept else None, "+.4f") if o.kept else Cell("–"),
            number_cell(o.kept.flips.total if o.kept else None, "d"),
            number_cell(o.typical_ms, milliseconds),
            number_cell(o.size_bytes, megabytes),
            Cell("yes" if o.front else "", int(o.front)),
        ]
        for o in sorted(pool.options, key=lambda o: o.typical_ms)
    ]
    heads = ["file", "accuracy", "AUC", "accuracy kept", "AUC difference", "flips", "ms", "MB", "front"]
    return block(
        "All bundles on one front",
        f"{where(pool)}; differences and flips against the {pool.reference}, image by image. A colour is a bundle; "
        "grey: something else is at least as accurate and faster. The runs were made one after the other: a few "
        "per cent between bundles are the machine's.",
        beside(plots.pareto(points), f'<div class="dense">{table(heads, lines, "All bundles")}</div>'),
    )


def _shape(option: Option) -> str:
    return SHAPES.get(option.runtime, "circle")
