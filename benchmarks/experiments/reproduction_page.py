"""``reproduction.html``: the paper's tables and figures beside our own, with the differences and their reasons."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image

from sonoedge.benchmarks.experiments import reproduction_plots as plots
from sonoedge.benchmarks.experiments.reproduction_facts import (
    METRICS,
    SOURCE_WORDS,
    SPLIT_WORDS,
    Comparison,
    data_line,
    differences,
    notes,
    shown_in_plots,
)
from sonoedge.benchmarks.report.html import render
from sonoedge.benchmarks.retention.wording import NAMES, shown
from sonoedge.edge_runtime.imaging.image import read_image, resize
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.evaluation.metrics import Confusion, confusion, sigmoid
from sonoedge.train.experiments.reproduction import Unit
from sonoedge.train.experiments.systems import PROPOSED, SYSTEMS
from sonoedge.train.markdown import markdown_table

_GRID_PIXELS = 150
_GRID_COLUMNS = 4


def page(dataset: Dataset, units: Sequence[Unit], comparisons: Sequence[Comparison], provenance: str) -> str:
    """The whole page as HTML."""
    colours = {system: i for i, system in enumerate(dict.fromkeys(unit.system for unit in units))}
    plotted, found_curves = shown_in_plots(units), _curves(units)
    navigation = [
        ("tables", "Tables III, V", True), ("comparisons", "Comparisons", comparisons), ("bars", "Figure 11", True),
        ("roc", "Figure 7", True), ("confusion", "Figure 6", True), ("curves", "Figures 4, 5", found_curves),
        ("samples", "Figure 3", True), ("differences", "Differences", True),
    ]  # fmt: skip
    return render(
        "reproduction",
        navigation=[(anchor, name) for anchor, name, there in navigation if there],
        facts=data_line(dataset),
        notes=notes(units),
        units=units,
        shown=plotted,
        systems=SYSTEMS,
        splits=SPLIT_WORDS,
        names={name: NAMES[name] for name in METRICS},
        sources=_sources,
        colours=colours,
        comparisons=comparisons,
        bars=[plots.bars(plotted, metric, NAMES[metric], colours) for metric in ("accuracy", "auc")],
        roc={p: plots.roc([unit for unit in plotted if unit.protocol == p], colours) for p in SPLIT_WORDS},
        labels=dataset.labels,
        matrices=_confusions(units),
        curves=found_curves,
        samples=samples(dataset),
        differences=differences(units),
        provenance=provenance,
    )


def markdown(dataset: Dataset, units: Sequence[Unit], comparisons: Sequence[Comparison], provenance: str) -> str:
    """The tables and the text as Markdown."""
    lines = ["# The paper's experiments, run again", "", f"**{INTENDED_USE}**", "", f"{data_line(dataset)}.", ""]
    lines += [f"- {note}" for note in notes(units)]
    for protocol, words in SPLIT_WORDS.items():
        head = ["system", "weights", "train/val/test", "leaks", *(NAMES[name] for name in METRICS)]
        rows = []
        for unit in units:
            if unit.protocol == protocol:
                figures = []
                for name in METRICS:
                    known = SYSTEMS[unit.system].published.get(name)
                    figures.append(shown(unit.metrics[name]) + (f"; published {known:.4f}" if known else ""))
                counts = "/".join(str(unit.images[subset]) for subset in ("train", "val", "test"))
                rows.append([SYSTEMS[unit.system].title, _sources(unit), counts, unit.leaks, *figures])
        lines += ["", f"## {words[0].upper()}{words[1:]}", "", markdown_table(head, rows)]
    if comparisons:
        pairs = [
            [SYSTEMS[pair.system].title, SPLIT_WORDS[pair.protocol], shown(pair.difference), pair.verdict]
            for pair in comparisons
        ]
        head = ["AUC of the fused system minus", "split", "difference", "verdict"]
        lines += ["", "## Comparisons", "", markdown_table(head, pairs)]
    lines += ["", "## What differs from the paper", "", *(f"- {text}" for text in differences(units))]
    return "\n".join([*lines, "", f"{provenance} Values with 95 % intervals.", ""])


def samples(dataset: Dataset) -> dict[str, list[tuple[str, str]]]:
    """Paths and data URIs of a few images by class, evenly spread over the folder, as in the paper's Fig. 3."""
    found = {}
    for label, name in enumerate(dataset.labels):
        mine = [sample for sample in dataset.samples if sample.label == label]
        chosen = [mine[i] for i in np.linspace(0, len(mine) - 1, min(_GRID_COLUMNS, len(mine))).astype(int)]
        size = (_GRID_PIXELS, _GRID_PIXELS)
        found[name] = [(s.relative_path, _uri(resize(read_image(s.path), size))) for s in chosen]
    return found


def _confusions(units: Sequence[Unit]) -> list[tuple[str, Confusion]]:
    matrices = []
    for unit in units:
        title = f"{SYSTEMS[unit.system].title}, {'random' if unit.protocol == 'paper' else 'grouped'}"
        called = sigmoid(unit.logits) >= unit.threshold
        matrices.append((title, confusion(np.array(unit.y), called)))
    return matrices


def _curves(units: Sequence[Unit]) -> list[tuple[str, list[Markup]]]:
    """Learning curves of the paper's system, or of the first system if the paper's did not run.

    A head trained in one step has no curve.
    """
    system = PROPOSED if any(unit.system == PROPOSED for unit in units) else units[0].system
    return [
        (
            f"{SYSTEMS[system].title}, {SPLIT_WORDS[unit.protocol]}",
            [plots.curves(unit, 0, metric) for metric in ("accuracy", "loss")],
        )
        for unit in units
        if unit.system == system and len(unit.histories[0]["loss"]) >= 2
    ]


def _sources(unit: Unit) -> str:
    words = dict.fromkeys(SOURCE_WORDS[source] for source in unit.sources.values())
    return ", ".join(words) if unit.trained else "untrained"


def _uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).convert("L").save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
