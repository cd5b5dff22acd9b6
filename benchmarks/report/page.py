"""``report.html``: one file for a phone, a desk, a printer and a screen reader; no network, scripts optional."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from sonoedge.benchmarks.report.choice import pools
from sonoedge.benchmarks.report.html import document
from sonoedge.benchmarks.report.panels import accuracy as panels_accuracy
from sonoedge.benchmarks.report.panels import choice as panels_choice
from sonoedge.benchmarks.report.panels import cost as panels_cost
from sonoedge.benchmarks.report.panels import run as panels
from sonoedge.benchmarks.report.text import data_line, machine_line
from sonoedge.benchmarks.retention.regression import Comparison
from sonoedge.benchmarks.retention.results import Result, borrow_scores, pick
from sonoedge.edge_runtime.words import INTENDED_USE


def page(results: Sequence[Result], comparison: Comparison | None) -> str:
    """The whole report as HTML; ``comparison`` is with a baseline, if there is one."""
    bundle = results[0].run.bundle
    names = list(dict.fromkeys(row.name for found in results for row in found.rows if row.kind != "bare"))
    colours = {name: i for i, name in enumerate(names)}
    navigation, parts = [], []
    if comparison is not None:
        parts.append(_baseline(comparison))
    found_pools = pools(results)
    bundles = {found.run.bundle_digest for found in results}
    if len(bundles) > 1 and not any(pool.bundles == len(bundles) for pool in found_pools):
        parts.append(
            f'<div class="banner">These runs are of {len(bundles)} different bundles: compare with care.</div>'
        )
    if found_pools:
        navigation.append(("choice", "Choice"))
        parts.append(f'<h2 id="choice">What to take</h2>{panels_choice.choice(found_pools)}')
    if len(results) > 1:
        navigation.append(("overview", "Overview"))
        parts.append(f'<h2 id="overview">Overview</h2>{panels.overview(results)}')
    for number, found in enumerate(results, start=1):
        prefix = f"run{number}-"
        links, content = _run(found, prefix, colours, results)
        title = _title(found) if len(bundles) == 1 else f"{found.run.bundle} on {_title(found)}"
        parts.append(f'<h2 id="{prefix}top">{escape(title)}</h2>{content}')
        navigation += links if len(results) == 1 else [(f"{prefix}top", title)]
    navigation.append(("limits", "Limits"))
    parts.append(f'<h2 id="limits">What this does not tell</h2>{panels.limits(results)}')
    header = (
        f"<h1>Benchmark of {escape(bundle)}</h1>"
        '<p class="lead">What every exported file keeps of the full model, and what it costs: same images, same '
        "machine, "
        f'same minutes.</p><p class="use">{escape(INTENDED_USE)}</p>'
    )
    footer = (
        f"{escape(INTENDED_USE)}<br>Made by SonoEdge. All figures are in report.json, the main ones in report.csv."
    )
    return document(f"SonoEdge benchmark: {bundle}", header, navigation, "".join(parts), footer)


def _title(found: Result) -> str:
    run = found.run
    if run.data is None:
        return f"{run.machine.processor}, {run.created[:10]}"
    kind = "test images" if run.data.kind == "test" else "external images"
    return f"{run.data.name}: {len(run.data.images)} {kind}"


def _run(
    found: Result, prefix: str, colours: Mapping[str, int], others: Sequence[Result]
) -> tuple[list[tuple[str, str]], str]:
    """Links and content of one run, with a section only for what the run measured."""
    run = found.run
    rows = [row for row in found.rows if row.kind != "bare" and not row.error]
    ours = [row for row in rows if row.kind in {"full", "artifact"}]
    scored, timed = [r for r in rows if r.scores], [r for r in rows if r.speed]
    parts = [
        f"<p>{escape(data_line(run))}.</p>" if run.data else "",
        f'<p class="note">{escape(machine_line(run))}. Measured {escape(run.created[:16].replace("T", " "))} '
        "UTC.</p>",
    ]
    if run.invalid:
        parts.append(f'<div class="banner"><b>These timings do not count:</b> {escape(run.invalid)}.</div>')
    parts += [
        f'<p class="failed">{escape(row.name)} failed: {escape(row.error)}</p>' for row in found.rows if row.error
    ]
    sentence = pick(found)
    first = f'<p class="pick">{escape(sentence)}</p>' if sentence else ""
    sections: list[tuple[str, str, str]] = [("cards", "In short", first + panels.cards(found))]
    if any(row.speed and row.scores for row in rows):
        sections.append(("pareto", "Trade-off", panels_cost.pareto(found, rows, colours)))
    elif borrowed := borrow_scores(found, others):
        lent, donor = borrowed
        source = f"Accuracy was measured elsewhere: {_title(donor)}."
        sections.append(("pareto", "Trade-off", panels_cost.pareto(found, lent, colours, source)))
    if scored:
        sections.append(("kept", "What is kept", panels_accuracy.retention(found, scored, colours)))
        sections.append(("metrics", "Metrics", panels_accuracy.metrics(found, scored, colours)))
        sections.append(("curves", "Curves", panels_accuracy.curves(found, ours, colours)))
        sections.append(("confusion", "Confusion", panels_accuracy.confusions(found, scored)))
    if timed:
        sections.append(("latency", "Latency", panels_cost.latency(found, timed, colours)))
        if any(row.sweep for row in rows):
            sections.append(("threads", "Threads", panels_cost.threads(found, rows, colours)))
        sections.append(("peers", "Peers", panels_cost.peers(found)))
    sections.append(("size", "Size and memory", panels_cost.sizes(found, rows, colours)))
    if run.gallery:
        sections.append(("gallery", "Heat maps", panels_accuracy.gallery(run)))
    if run.ladders:
        sections.append(("ladder", "Guard", panels_accuracy.guard_tables(run)))
    sections.append(("provenance", "Provenance", panels.provenance(run)))
    links = [(prefix + anchor, name) for anchor, name, content in sections if content]
    parts += [f'<div id="{prefix}{anchor}">{content}</div>' for anchor, _, content in sections if content]
    return links, "".join(parts)


def _baseline(comparison: Comparison) -> str:
    if not comparison.regressions:
        text = f"No regression in {comparison.compared} figures compared with the baseline."
        return f'<div class="banner ok">{text}</div>'
    items = "".join(f"<li>{escape(str(regression))}</li>" for regression in comparison.regressions)
    return f'<div class="banner"><b>Worse than the baseline:</b><ul>{items}</ul></div>'
