"""``report.html``: one file for a phone, a desk, a printer and a screen reader; no network, scripts optional."""

from __future__ import annotations

from collections.abc import Sequence

from sonoedge.benchmarks.report.choice import pools
from sonoedge.benchmarks.report.html import render
from sonoedge.benchmarks.report.panels import accuracy as panels_accuracy
from sonoedge.benchmarks.report.panels import choice as panels_choice
from sonoedge.benchmarks.report.panels import cost as panels_cost
from sonoedge.benchmarks.report.panels import run as panels
from sonoedge.benchmarks.report.plots import Colours
from sonoedge.benchmarks.retention.regression import Comparison
from sonoedge.benchmarks.retention.results import Result, borrow_scores


def page(results: Sequence[Result], comparison: Comparison | None) -> str:
    """The whole report as HTML; ``comparison`` is with a baseline, if there is one."""
    names = list(dict.fromkeys(row.name for found in results for row in found.rows if row.kind != "bare"))
    colours = {name: i for i, name in enumerate(names)}
    found_pools = pools(results)
    bundles = len({found.run.bundle_digest for found in results})
    compared = any(pool.bundles == bundles for pool in found_pools)
    navigation = [("choice", "Choice")] if found_pools else []
    navigation += [("overview", "Overview")] if len(results) > 1 else []
    parts = []
    for number, found in enumerate(results, start=1):
        prefix, sections = f"run{number}-", _sections(found, colours, results)
        title = _title(found) if bundles == 1 else f"{found.run.bundle} on {_title(found)}"
        failed = [row for row in found.rows if row.error]
        parts.append({"prefix": prefix, "title": title, "run": found.run, "failed": failed, "sections": sections})
        links = [(prefix + anchor, name) for anchor, name, _ in sections]
        navigation += links if len(results) == 1 else [(f"{prefix}top", title)]
    return render(
        "report",
        bundle=results[0].run.bundle,
        navigation=[*navigation, ("limits", "Limits")],
        comparison=comparison,
        different_bundles=bundles if bundles > 1 and not compared else 0,
        choice=panels_choice.choice(found_pools),
        overview=panels.overview(results) if len(results) > 1 else "",
        parts=parts,
        limits=panels.limits(results),
    )


def _title(found: Result) -> str:
    run = found.run
    if run.data is None:
        return f"{run.machine.processor}, {run.created[:10]}"
    kind = "test images" if run.data.kind == "test" else "external images"
    return f"{run.data.name}: {len(run.data.images)} {kind}"


def _sections(found: Result, colours: Colours, others: Sequence[Result]) -> list[tuple[str, str, str]]:
    """Anchor, name and content of the sections of one run; a section only for what the run measured."""
    run = found.run
    rows = [row for row in found.rows if row.kind != "bare" and not row.error]
    ours = [row for row in rows if row.kind in {"full", "artifact"}]
    scored, timed = [r for r in rows if r.scores], [r for r in rows if r.speed]
    sections: list[tuple[str, str, str]] = [("cards", "In short", panels.cards(found))]
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
    return [section for section in sections if section[2]]
