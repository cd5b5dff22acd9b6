"""The panels of the page, each from a `Result`: a plot with its numbers, or a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks import plots
from benchmarks.html import Cell, beside, block, interval_cell, number_cell, table, text_cell
from benchmarks.results import Result, Row
from benchmarks.retention import METRICS
from benchmarks.runfile import Run
from benchmarks.text import NAMES, megabytes, milliseconds

Colours = Mapping[str, int]
_FLOAT = {"fp32", "fp16", "dynamic"}
_IMAGE = "data:image/jpeg;base64,"


def cards(found: Result) -> str:
    """One card an artifact: the figures that decide, and one sentence."""
    items = []
    for row in found.rows:
        if row.kind == "bare" or row.error:
            continue
        retention = row.scores.retention if row.scores else None
        figures = []
        if retention is not None:
            figures.append((f"{retention.accuracy_kept:.1%}", "accuracy kept"))
        elif row.scores is not None:
            figures.append((f"{row.scores.metrics['accuracy'].value:.1%}", "accuracy"))
        if row.speed:
            figures.append((f"{milliseconds(row.speed.p50_ms)} ms", "median latency"))
        figures.append((f"{megabytes(row.size_bytes)} MB", "on disk"))
        if row.peak_bytes:
            figures.append((f"{megabytes(row.peak_bytes)} MB", "peak memory"))
        kind = {"full": "the full model", "peer": "peer"}.get(row.kind, found.run.candidate(row.name).precision)
        big = "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in figures)
        front = '<span class="tag plain">on the front</span>' if row.front else ""
        verdict = (
            "".join(_tag(f"{share}: {text}", text) + " " for share, text in retention.verdicts.items())
            if retention
            else ""
        )
        items.append(
            f'<article class="card"><h3>{escape(row.name)} <span class="tag plain">{escape(kind)}</span> {front}</h3>'
            f'<div class="big">{big}</div><p>{verdict}</p><p>It {escape(row.headline)}.</p></article>'
        )
    return f'<div class="cards">{"".join(items)}</div>'


def pareto(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Accuracy against latency."""
    lines = [
        [
            _name(found, row, colours), interval_cell(row.scores.metrics["accuracy"]),
            number_cell(row.speed.p50_ms, milliseconds(row.speed.p50_ms)),
            Cell(f"{milliseconds(row.speed.low_ms)} – {milliseconds(row.speed.high_ms)}", row.speed.high_ms - row.speed.low_ms),
            Cell("yes" if row.front else "", int(row.front)),
        ]
        for row in rows
        if row.scores and row.speed
    ]  # fmt: skip
    numbers = table(["", "accuracy", "p50 ms", "round medians", "front"], lines, "Accuracy and latency")
    return block(
        "Accuracy against latency",
        "Left and up is better. Vertical bars: 95 % interval of the accuracy (wide, because the images are few; the paired "
        "comparison below is sharper). Horizontal bars: lowest and highest median of a round. Dashed: the front, where "
        "nothing else is both faster and at least as accurate.",
        beside(plots.pareto(found, rows, colours), numbers),
    )


def retention(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Paired comparison with the reference."""
    labels = found.run.data.labels if found.run.data else ("negative", "positive")
    lines = []
    for row in rows:
        r = row.scores.retention if row.scores else None
        if r is None:
            continue
        f = r.flips
        lines.append([
            _name(found, row, colours), number_cell(r.accuracy_kept, f"{r.accuracy_kept:.2%}"),
            interval_cell(r.accuracy_difference, "+.3f"), interval_cell(r.auc_difference, "+.4f"),
            Cell(f"{f.total}<small>at most {f.rate.high:.1%}</small>", f.total),
            *[Cell(f"{up} up, {down} down", up + down) for up, down in (
                (f.negative_to_positive, f.negative_to_negative), (f.positive_to_positive, f.positive_to_negative))],
            Cell(f"{f.lost} / {f.gained}", f.lost - f.gained), number_cell(f.mcnemar_p, f"{f.mcnemar_p:.2g}"),
            *[Cell(_tag(text, text), text) for text in r.verdicts.values()],
            number_cell(row.heatmap_median, f"{row.heatmap_median or 0:.3f}"),
            number_cell(row.heatmap_low, f"{row.heatmap_low or 0:.3f}"),
        ])  # fmt: skip
    if not lines:
        return ""
    heads = ["", "accuracy kept", "accuracy difference", "AUC difference", "flips", f"flips of {labels[0]}",
             f"flips of {labels[1]}", "lost / gained", "McNemar p", "≥ 99 %", "≥ 99.9 %", "heat map", "heat map, 5 %"]  # fmt: skip
    return block(
        f"What is kept of {found.run.reference}",
        "The same images, decision by decision. Flips up: now called positive. Lost: right before, wrong now. Verdict: PASS "
        "where the whole 95 % interval of the difference keeps that share of the reference's accuracy, FAIL where none of "
        f"it does. Heat map: correlation with that of {found.run.heatmap_reference or 'the float file'}, median and 5th "
        "percentile over the images.",
        table(heads, lines, "Retention"),
    )


def metrics(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Every metric with its interval."""
    lines = [
        [_name(found, row, colours), *[interval_cell(row.scores.metrics[name]) for name in METRICS]]
        for row in rows
        if row.scores
    ]
    return block(
        "Metrics", "Value and 95 % interval: proportions joined with a score interval, the rest a bootstrap that draws whole "
        "groups (patients). Brier score and calibration error: lower is better.",
        table(["", *(NAMES[name] for name in METRICS)], lines, "Metrics"),
    )  # fmt: skip


def curves(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """ROC curves and reliability diagram."""
    scored = [row for row in rows if row.scores]
    few = [r for r in scored if r.kind == "full" or found.run.candidate(r.name).precision not in _FLOAT] or scored[
        :2
    ]
    areas = [
        [_name(found, row, colours), interval_cell(row.scores.metrics["auc"]),
         interval_cell(row.scores.metrics["sensitivity"]), interval_cell(row.scores.metrics["specificity"])]
        for row in scored if row.scores
    ]  # fmt: skip
    bins = [
        [_name(found, row, colours), number_cell(b.mean_probability, f"{b.mean_probability:.3f}"), interval_cell(b.observed, ".2f"),
         number_cell(b.images, str(b.images))]
        for row in few if row.scores for b in row.scores.reliability
    ]  # fmt: skip
    roc = block(
        "ROC curves", "Dots: the operating points, each artifact at its own threshold. Curves that lie on each other are the aim.",
        beside(plots.roc(scored, colours), table(["", "AUC", "sensitivity", "specificity"], areas, "ROC"), narrow=True),
    )  # fmt: skip
    numbers = table(["", "mean probability", "observed", "images"], bins, "Reliability")
    reliability = block(
        "Reliability",
        "How often images with a predicted probability were positive, with 95 % intervals: the reference and the integer "
        "files. On the dotted line, a probability means what it says.",
        beside(
            plots.reliability(few, colours),
            f"<details open><summary>Numbers</summary>{numbers}</details>",
            narrow=True,
        ),
    )
    return roc + reliability


def confusions(found: Result, rows: Sequence[Row]) -> str:
    """Confusion matrices, shaded by the share of each true class."""
    labels = found.run.data.labels if found.run.data else ("negative", "positive")
    items = []
    for row in rows:
        if not row.scores:
            continue
        c = row.scores.confusion
        lines = []
        for label, counts in zip(
            labels, ((c.true_negative, c.false_positive), (c.false_negative, c.true_positive)), strict=True
        ):
            total = max(sum(counts), 1)
            cells = "".join(
                f'<td style="background:rgba(var(--heat),{0.06 + 0.5 * n / total:.2f})"><b>{n}</b>{n / total:.0%}</td>'
                for n in counts
            )
            lines.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
        heads = "".join(f'<th scope="col">called {escape(label)}</th>' for label in labels)
        items.append(
            f'<div class="confusion"><h3>{escape(row.name)}</h3><table><thead><tr><th>truth</th>{heads}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>"
        )
    return block(
        "Confusion matrices",
        "Images, and the share of the true class.",
        f'<div class="confusions">{"".join(items)}</div>',
    )


def latency(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Percentiles, start-up, stages, distribution."""
    lines, stages = [], []
    for row in rows:
        c, s = found.run.candidate(row.name), row.speed
        if s is None:
            continue
        lines.append([
            _name(found, row, colours), *[number_cell(v, milliseconds(v)) for v in (s.p50_ms, s.p90_ms, s.p99_ms)],
            Cell(f"{milliseconds(s.low_ms)} – {milliseconds(s.high_ms)}", s.high_ms - s.low_ms), number_cell(s.queries, str(s.queries)),
            *[number_cell(v, milliseconds(v)) for v in (c.init_ms, c.first_ms)],
            number_cell(row.bare_ratio, f"{row.bare_ratio or 0:.3f}"), text_cell(_executed(c.executed), words=True),
        ])  # fmt: skip
        if "invoke" in c.stages_ms:
            stages.append([_name(found, row, colours), *[
                number_cell(c.stages_ms.get(k), f"{c.stages_ms.get(k, 0):.2f}") for k in ("decode", "resize", "invoke", "head", "explain")
            ]])  # fmt: skip
    heads = [
        "",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "round medians",
        "queries",
        "open ms",
        "first ms",
        "÷ bare",
        "executed",
    ]
    content = beside(plots.distribution(found, rows, colours), table(heads, lines, "Latency"))
    if stages:
        content += "<h3>One image, stage by stage (median ms)</h3>"
        content += table(["", "decode", "resize", "invoke", "head", "explain"], stages, "Stages")
    return block(
        "Latency",
        "Single stream: one frame after another, backbone and head, after decoding and resizing; candidates take turns in "
        "processes of their own. A percentile is given where at least three queries lie beyond it (p90: 30, p99: 300). ÷ bare: "
        "our median over that of the interpreter alone on the same backbone file. Open: reading and compiling the file; first: "
        "the first frame. The plot gathers what is slower than the 99th percentile at its edge.",
        content,
    )


def threads(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Latency by number of threads."""
    swept = [row for row in rows if row.sweep]
    counts = sorted({s.threads for row in swept for s in row.sweep})
    lines = []
    for row in swept:
        by_count = {s.threads: s.p50_ms for s in row.sweep}
        gain = by_count[min(by_count)] / by_count[max(by_count)]
        lines.append([
            _name(found, row, colours), *[number_cell(by_count.get(n), milliseconds(by_count.get(n))) for n in counts],
            number_cell(gain, f"{gain:.2f}×"),
        ])  # fmt: skip
    shapes = {row.name: plots.shape_of(found, row.name) for row in swept}
    numbers = table(["", *(f"{n} thread{'s' if n > 1 else ''}" for n in counts), "gain"], lines, "Thread scaling")
    return block(
        "Thread scaling", "Median latency in ms. Numbers of threads other than the main one are measured with a quarter of the queries.",
        beside(plots.scaling(swept, colours, shapes), numbers),
    )  # fmt: skip


def peers(found: Result) -> str:
    """Ours beside what one would pick instead: bare interpreters, other clocks, other quantizers."""
    lines = []
    for row in found.rows:
        c, s = found.run.candidate(row.name), row.speed
        if row.kind in {"full", "artifact"}:
            continue
        ours = found.row(c.of) if c.of else None
        ratio = ours.speed.p50_ms / s.p50_ms if ours and ours.speed and s else None
        retention = row.scores.retention if row.scores else None
        note = c.note if not row.error else f"failed: {row.error}"
        lines.append([
            text_cell(row.name), number_cell(s.p50_ms if s else None, milliseconds(s.p50_ms) if s else ""),
            number_cell(ratio, f"{ratio or 0:.3f}"),
            number_cell(retention.accuracy_kept if retention else None, f"{retention.accuracy_kept:.2%}" if retention else ""),
            number_cell(retention.flips.total if retention else None, str(retention.flips.total) if retention else ""),
            number_cell(row.size_bytes, megabytes(row.size_bytes)), text_cell(note, words=True),
        ])  # fmt: skip
    if not lines:
        return ""
    return block(
        "What you would pick instead", "Measured in the same turns as our files. Ours ÷ theirs: our median (backbone and head) over "
        "theirs on the same file.",
        table(["", "p50 ms", "ours ÷ theirs", "accuracy kept", "flips", "MB", "what it is"], lines, "Peers"),
    )  # fmt: skip


def sizes(found: Result, rows: Sequence[Row], colours: Colours) -> str:
    """Bytes on disk and in memory."""
    lines = []
    for row in rows:
        c = found.run.candidate(row.name)
        own = c.peak_bytes - c.base_bytes if c.peak_bytes and c.base_bytes else None
        lines.append(
            [
                _name(found, row, colours),
                *[number_cell(v, megabytes(v)) for v in (row.size_bytes, row.peak_bytes, own)],
            ]
        )
    return block(
        "Size and memory", "Peak resident memory of a fresh process that opens the file and runs a few frames; the last column without "
        "Python and the interpreter's library, the thin mark in the plot.",
        beside(plots.bars(found, rows, colours), table(["", "files MB", "peak MB", "of which model MB"], lines, "Size and memory")),
    )  # fmt: skip


def gallery(run: Run) -> str:
    """Heat maps of the float file and of the integer files."""
    items = []
    for picture in run.gallery:
        views = [("image", picture.image, "")]
        views += [
            (n, uri, f", p = {picture.probabilities.get(n, float('nan')):.2f}")
            for n, uri in picture.overlays.items()
        ]
        cells = "".join(
            f'<div><img src="{escape(uri, quote=True)}" alt="{escape(f"{name}; {picture.caption}", quote=True)}" loading="lazy">'
            f"<span>{escape(name + more)}</span></div>"
            for name, uri, more in views
            if uri.startswith(_IMAGE)
        )
        items.append(f"<figure><figcaption>{escape(picture.caption)}</figcaption><div>{cells}</div></figure>")
    return block(
        "Heat maps, full precision and integer",
        "Grad-CAM for the class that the reference decides for. The images are spread over the whole range of agreement, from the "
        "worst to the best; none was picked by eye.",
        f'<div class="gallery">{"".join(items)}</div>',
    )


def ladders(run: Run) -> str:
    """What the accuracy guard tried."""
    parts = []
    for name, rungs in run.ladders.items():
        usable = [rung for rung in rungs if _is_rung(rung)] if isinstance(rungs, list) else []
        if not usable:
            continue
        lines = [
            [
                text_cell(str(rung["candidate"]), words=True), Cell(_tag(str(rung["verdict"]), str(rung["verdict"])), str(rung["verdict"])),
                Cell(f"{rung['flipped']} of {rung['images']}", rung["flipped"]),
                number_cell(rung["accuracy_difference"][0], f"{rung['accuracy_difference'][0]:+.3f}"),
                number_cell(rung.get("p50_ms"), milliseconds(rung.get("p50_ms"))),
            ]
            for rung in usable
        ]  # fmt: skip
        numbers = table(["candidate", "verdict", "flips", "accuracy", "p50 ms"], lines, f"Guard ladder of {name}")
        parts.append(block(
            f"Guard ladder of {name}", "What the accuracy guard tried at export, on validation images: the fastest candidate within the "
            "budget was taken.", beside(plots.ladder(usable), numbers)))  # fmt: skip
    return "".join(parts)


def _is_rung(rung: Any) -> bool:
    keys = {"candidate", "verdict", "images", "flipped", "accuracy_difference", "budget"}
    return isinstance(rung, dict) and keys <= set(rung) and None not in rung["accuracy_difference"]


def provenance(run: Run) -> str:
    """Where everything comes from."""
    m, before, after = run.machine, run.thermal_before, run.thermal_after

    def heat(moment: Any) -> str:
        parts = []
        if moment.temperature_c is not None:
            parts.append(f"{moment.temperature_c:g} °C")
        if moment.clock_mhz is not None:
            parts.append(f"{moment.clock_mhz:g} MHz")
        if moment.throttled is not None:
            parts.append(f"throttling flags {moment.throttled:#x}")
        return ", ".join(parts) or "not told by this machine"

    entries = {
        "bundle": f"{run.bundle}, digest {run.bundle_digest}", "reference": run.reference or "none", "measured": run.created,
        "processor": f"{m.processor} ({m.architecture}), {m.cores} cores", "governor": m.governor or "unknown",
        "system": f"{m.system}, Python {m.python}", "versions": ", ".join(f"{k} {v}" for k, v in m.versions.items()),
        "before the run": heat(before), "after the run": heat(after),
    }  # fmt: skip
    if run.data:
        entries["images"] = f"{run.data.name}, digest {run.data.digest}; " + "; ".join(
            (run.data.note, *run.data.notes)
        )
    for key, value in run.provenance.items():
        entries[key.replace("_", " ")] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in entries.items())
    return block("Provenance", "What was measured, on what, with what.", f"<dl>{items}</dl>")


def overview(results: Sequence[Result]) -> str:
    """All runs in one table: accuracy by data set, median latency by machine."""
    names = list(dict.fromkeys(row.name for found in results for row in found.rows if row.kind != "bare"))
    heads = [""]
    for number, found in enumerate(results, start=1):
        data, machine = found.run.data, found.run.machine.processor
        heads += [f"{number}: accuracy, {data.name} ({data.kind})"] if data else []
        heads += [f"{number}: p50 ms, {machine}"] if any(row.speed for row in found.rows) else []
    lines = []
    for name in names:
        line = [text_cell(name)]
        for found in results:
            row = next((r for r in found.rows if r.name == name), None)
            if found.run.data:
                line.append(interval_cell(row.scores.metrics["accuracy"] if row and row.scores else None))
            if any(r.speed for r in found.rows):
                p50 = row.speed.p50_ms if row and row.speed else None
                line.append(number_cell(p50, milliseconds(p50)))
        lines.append(line)
    return block(
        "All runs",
        "A test set says how the files compare; only external images say how the model travels.",
        table(heads, lines, "All runs"),
    )


def limits(results: Sequence[Result]) -> str:
    """What a reader must not conclude."""
    counts = [len(found.run.data.images) for found in results if found.run.data]
    few = (
        f"With {min(counts)} images, zero flips still allow {1 - 0.025 ** (1 / min(counts)):.1%} (exact 95 % bound). "
        if counts
        else ""
    )
    items = [
        f"{few}INCONCLUSIVE means that these images cannot tell, not that nothing was lost.",
        "Thresholds were chosen on validation images; test figures belong to the training data's hospital and scanner, external ones to theirs.",
        "Latency holds for this machine, these versions and an idle machine; integer files can be faster on one processor and slower on another.",
        "Integer results differ by a few units between x86 and Arm: run the benchmark on the device that will be used.",
        "Calibration error and its interval lean upwards for few images. Intervals are not corrected for the number of files compared.",
        "A heat map that stays the same says that the file explains like the full model, not that the explanation is right.",
    ]  # fmt: skip
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _name(found: Result, row: Row, colours: Colours) -> Cell:
    shape = plots.shape_of(found, row.name)
    key = f'<span class="key {shape}" style="background:var(--s{colours[row.name] % 8})" aria-hidden="true"></span>'
    return Cell(f"{key}{escape(row.name)}", row.name)


def _tag(text: str, verdict: str) -> str:
    known = verdict if verdict in {"PASS", "FAIL", "INCONCLUSIVE"} else "plain"
    return f'<span class="tag {known}">{escape(text)}</span>'


def _executed(executed: Mapping[str, Any]) -> str:
    parts = [str(executed.get("interpreter", ""))]
    if "xnnpack_partitions" in executed:
        parts.append(f"{executed['operators']} operators, XNNPACK partitions: {executed['xnnpack_partitions']}")
    if isinstance(executed.get("executed"), dict):
        parts.append("matrix operators in " + ", ".join(f"{k}: {v}" for k, v in executed["executed"].items()))
    return "; ".join(part for part in parts if part)
