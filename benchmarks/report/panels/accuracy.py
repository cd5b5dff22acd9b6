"""Panels about accuracy: retention, metrics, curves, confusion matrices, heat maps, the guard's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from sonoedge.benchmarks.records.runfile import Run
from sonoedge.benchmarks.report import html, plots
from sonoedge.benchmarks.report.html import Cell, beside, block, interval_cell, number_cell, table, text_cell
from sonoedge.benchmarks.report.panels.common import Colours, name_cell, tag
from sonoedge.benchmarks.retention.explanations import FLOAT_BOUND, INTEGER_BOUND
from sonoedge.benchmarks.retention.results import Result, Row
from sonoedge.benchmarks.retention.retention import METRICS, Retention
from sonoedge.benchmarks.retention.wording import NAMES, milliseconds, percent

FLOAT_PRECISIONS = {"fp32", "fp16", "dynamic"}
_IMAGE = "data:image/jpeg;base64,"


def retention(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Paired comparison with the reference."""
    labels = _labels(found)
    lines = []
    for row in rows:
        r = row.scores.retention if row.scores else None
        if r is None:
            continue
        f = r.flips
        lines.append([
            name_cell(found, row, colours),
            _accuracy_cell(r),
            _explanation_cell(row),
            Cell(f"{f.total}<small>at most {percent(f.rate.high)}</small>", f.total),
            _flips_cell(f.negative_to_positive, f.negative_to_negative),
            _flips_cell(f.positive_to_positive, f.positive_to_negative),
            Cell(f"{f.lost} / {f.gained}", f.lost - f.gained),
            interval_cell(r.accuracy_difference, "+.3f"),
            interval_cell(r.auc_difference, "+.4f"),
            number_cell(f.mcnemar_p, ".2g"),
            number_cell(row.explanation.low if row.explanation else None, ".3f"),
        ])  # fmt: skip
    if not lines:
        return ""
    heads = ["model", "accuracy kept", "heat map cosine", "flips", f"of {labels[0]}", f"of {labels[1]}"]
    heads += ["lost / gained", "accuracy difference", "AUC difference", "McNemar p", "cosine of the worst 5 %"]
    return block(
        f"What is kept of the {found.run.reference}",
        "The same images, decision by decision. Flips ↑: now called positive, ↓: now negative. Lost: right "
        "before, wrong now. PASS: the whole 95 % interval of the difference keeps that share of the reference's "
        f"accuracy; FAIL: none of it does. Heat map: median cosine with {_truth(found)}, for the class that the "
        f"reference decides, {_images_compared(rows)}; it keeps the explanation where the whole interval reaches "
        f"the bound ({FLOAT_BOUND:g} for fp32, {INTEGER_BOUND:g} for all others).",
        f'<div class="dense">{table(heads, lines, "Retention")}</div>',
    )


def confusions(found: Result, rows: Sequence[Row]) -> str:
    """Confusion matrices of all scored candidates."""
    matrices = [(row.name, row.scores.confusion) for row in rows if row.scores]
    return html.confusions("Images, and the share of the true class.", _labels(found), matrices)


def _labels(found: Result) -> tuple[str, ...]:
    return found.run.data.labels if found.run.data else ("negative", "positive")


def _truth(found: Result) -> str:
    """The reference of the heat maps in words."""
    name = found.run.heatmap_reference
    if name is None:
        return "nothing (no float32 file was measured)"
    kind = found.run.candidate(name).kind
    return f"Grad-CAM by GradientTape on the {name}" if kind == "full" else f"that of {name}"


def _images_compared(rows: Sequence[Row]) -> str:
    """The number of compared images in words, and on how many of them a map was lost."""
    compared = [row.explanation for row in rows if row.explanation]
    if not compared:
        return "not compared here"
    lost = max(one.lost for one in compared)
    return f"all {compared[0].images} images" + (
        f", on up to {lost} of which only one map is empty" if lost else ""
    )


def _accuracy_cell(kept: Retention) -> Cell:
    """The share of accuracy kept, and the verdict for each required share."""
    tags = "<br>".join(tag(f"{share}: {text}", text) for share, text in kept.verdicts.items())
    return Cell(f"{escape(percent(kept.accuracy_kept))}<br>{tags}", kept.accuracy_kept)


def _explanation_cell(row: Row) -> Cell:
    """The median cosine with its interval, and the verdict for its bound."""
    e = row.explanation
    if e is None:
        return Cell("–")
    mark = tag(f"{e.bound:g}: {e.verdict}", e.verdict)
    return Cell(f"{interval_cell(e.cosine, '.4f').content}{mark}", e.cosine.value)


def _flips_cell(up: int, down: int) -> Cell:
    return Cell(f"{up}↑ {down}↓", up + down)


def metrics(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Every metric with its interval."""
    lines = [
        [name_cell(found, row, colours), *[interval_cell(row.scores.metrics[name]) for name in METRICS]]
        for row in rows
        if row.scores
    ]
    return block(
        "Metrics",
        "Value and 95 % interval: a bootstrap that draws whole groups (patients), for proportions and AUC joined "
        "with a "
        "score interval. Brier score and calibration error: lower is better.",
        table(["model", *(NAMES[name] for name in METRICS)], lines, "Metrics"),
    )


def curves(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """ROC curves and reliability diagram."""
    scored = [row for row in rows if row.scores]
    few = [r for r in scored if r.kind == "full" or found.run.candidate(r.name).precision not in FLOAT_PRECISIONS]
    few = few or scored[:2]
    areas, bins, lines = [], [], []
    for row in scored:
        assert row.scores is not None
        three = (row.scores.metrics[name] for name in ("auc", "sensitivity", "specificity"))
        lines.append(plots.Curve(row.name, colours[row.name], row.scores.roc, row.scores.metrics))
        areas.append([name_cell(found, row, colours), *map(interval_cell, three)])
        if row in few:
            bins += [
                [
                    name_cell(found, row, colours),
                    number_cell(b.mean_probability, ".3f"),
                    interval_cell(b.observed, ".2f"),
                    number_cell(b.images, "d"),
                ]
                for b in row.scores.reliability
            ]
    roc = block(
        "ROC curves",
        "Dots: the operating points, each file at its own threshold. Curves that lie on each other are the aim.",
        beside(
            plots.roc(lines),
            table(["model", "AUC", "sensitivity", "specificity"], areas, "ROC"),
            narrow=True,
        ),
    )
    numbers = table(["model", "mean probability", "observed", "images"], bins, "Reliability")
    reliability = block(
        "Reliability",
        "How often images with a predicted probability were positive, with 95 % intervals: the reference and the "
        "integer "
        "files. On the dotted line, a probability means what it says.",
        beside(plots.reliability(few, colours), f'<div class="tall">{numbers}</div>', narrow=True),
    )
    return roc + reliability


def gallery(run: Run) -> str:
    """Heat maps of the float file and of the integer files."""
    items = []
    for picture in run.gallery:
        views = [("image", picture.image, "")]
        views += [
            (name, uri, f", p = {picture.probabilities[name]:.2f}" if name in picture.probabilities else "")
            for name, uri in picture.overlays.items()
        ]
        cells = "".join(
            f'<div><img src="{escape(uri, quote=True)}" alt="{escape(f"{name}; {picture.caption}", quote=True)}" '
            f'loading="lazy"><span>{escape(name + more)}</span></div>'
            for name, uri, more in views
            if uri.startswith(_IMAGE)
        )
        items.append(f"<figure><figcaption>{escape(picture.caption)}</figcaption><div>{cells}</div></figure>")
    return block(
        "Heat maps, full precision and integer",
        "Grad-CAM for the class that the reference decides for. The images are spread over the whole range of "
        "agreement, "
        "from the worst to the best; none was picked by eye.",
        f'<div class="gallery">{"".join(items)}</div>',
    )


def guard_tables(run: Run) -> str:
    """The candidates that the guard tried, one table for each artifact."""
    parts = []
    for name, candidates in run.ladders.items():
        usable = [entry for entry in candidates if _is_candidate(entry)] if isinstance(candidates, list) else []
        if not usable:
            continue
        lines = [
            [
                text_cell(str(entry["candidate"]), words=True),
                Cell(tag(str(entry["verdict"]), str(entry["verdict"])), str(entry["verdict"])),
                Cell(_flipped(entry), entry["flipped"]),
                number_cell(entry["accuracy_difference"][0], "+.3f"),
                number_cell(entry.get("p50_ms"), milliseconds),
            ]
            for entry in usable
        ]
        numbers = table(
            ["candidate", "verdict", "flips", "accuracy", "p50 ms"], lines, f"Guard's candidates of {name}"
        )
        parts.append(
            block(
                f"Guard's candidates of {name}",
                "What the accuracy guard tried at export, on validation images: the fastest candidate within the "
                "budget "
                "was taken.",
                beside(plots.guard_candidates(usable), numbers),
            )
        )
    return "".join(parts)


def _flipped(entry: Any) -> str:
    """Flips in words, such as ``0 of 95 in 71 groups``; bundles of earlier versions do not state the groups."""
    groups = entry.get("groups")
    return (
        f"{entry['flipped']:d} of {entry['images']:d}{f' in {groups:d} groups' if isinstance(groups, int) else ''}"
    )


def _is_candidate(entry: Any) -> bool:
    """Whether an entry of the guard's table has what the panel needs; the schema does not describe entries."""
    if not isinstance(entry, dict) or not {"candidate", "verdict", "budget"} <= set(entry):
        return False
    difference, budget = entry.get("accuracy_difference"), entry["budget"]
    numbers = [entry.get("images"), entry.get("flipped"), *(difference if isinstance(difference, list) else [None])]
    numbers.append(budget.get("max_drop") if isinstance(budget, dict) else None)
    return len(numbers) == 6 and all(isinstance(value, (int, float)) for value in numbers)
