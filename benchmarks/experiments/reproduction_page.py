"""``reproduction.html``: the paper's tables and figures beside our own, with the differences and their reasons."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
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
from sonoedge.benchmarks.report.html import (
    Cell,
    beside,
    block,
    confusions,
    document,
    interval_cell,
    number_cell,
    table,
    text_cell,
)
from sonoedge.benchmarks.report.svg import key
from sonoedge.benchmarks.retention.retention import confusion
from sonoedge.benchmarks.retention.wording import NAMES, shown
from sonoedge.edge_runtime.imaging.image import read_image, resize
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.evaluation.metrics import sigmoid
from sonoedge.train.experiments.reproduction import Unit
from sonoedge.train.experiments.systems import PROPOSED, SYSTEMS
from sonoedge.train.markdown import markdown_table

_GRID_PIXELS = 150
_GRID_COLUMNS = 4


def page(dataset: Dataset, units: Sequence[Unit], comparisons: Sequence[Comparison], provenance: str) -> str:
    """The whole page as HTML."""
    colours = {system: i for i, system in enumerate(dict.fromkeys(unit.system for unit in units))}
    parts = [
        ("tables", "Tables III, V", "".join(_figures(units, protocol, colours) for protocol in SPLIT_WORDS)),
        ("comparisons", "Comparisons", _comparisons(comparisons, colours)),
        ("bars", "Figure 11", _bars(shown_in_plots(units), colours)),
        ("roc", "Figure 7", "".join(_roc(shown_in_plots(units), protocol, colours) for protocol in SPLIT_WORDS)),
        ("confusion", "Figure 6", _confusions(dataset, units)),
        ("curves", "Figures 4, 5", _curves(units)),
        ("samples", "Figure 3", samples(dataset)),
        ("differences", "Differences", _list("What differs from the paper", differences(units))),
    ]
    used = [(anchor, name, content) for anchor, name, content in parts if content]
    lead = f"{data_line(dataset)}. One protocol for all systems, once as in the paper and once without the leak."
    header = (
        "<h1>The paper’s experiments, run again</h1>"
        f'<p class="lead">{escape(lead)}</p><p class="use">{escape(INTENDED_USE)}</p>'
        + "".join(f'<div class="banner">{escape(note)}</div>' for note in notes(units))
    )
    footer = f"{escape(INTENDED_USE)}<br>{escape(provenance)}<br>All figures are in reproduction.json."
    main = "".join(f'<div id="{anchor}">{content}</div>' for anchor, _, content in used)
    return document("SonoEdge reproduction", header, [(anchor, name) for anchor, name, _ in used], main, footer)


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


def samples(dataset: Dataset) -> str:
    """A grid of images by class, evenly spread over the folder, as in the paper's Fig. 3."""
    figures = []
    for label, name in enumerate(dataset.labels):
        mine = [sample for sample in dataset.samples if sample.label == label]
        chosen = [mine[i] for i in np.linspace(0, len(mine) - 1, min(_GRID_COLUMNS, len(mine))).astype(int)]
        cells = "".join(
            f'<div><img src="{_uri(resize(read_image(s.path), (_GRID_PIXELS, _GRID_PIXELS)))}" '
            f'alt="{escape(f"{name}: {s.relative_path}", quote=True)}"><span>{escape(s.relative_path)}</span></div>'
            for s in chosen
        )
        figures.append(f"<figure><figcaption>{escape(name)}</figcaption><div>{cells}</div></figure>")
    grid = f'<div class="gallery">{"".join(figures)}</div>'
    return block(
        "Sample images", "Evenly spread over the folder, as the models see them; none picked by eye.", grid
    )


def _figures(units: Sequence[Unit], protocol: str, colours: Mapping[str, int]) -> str:
    rows = []
    for unit in (unit for unit in units if unit.protocol == protocol):
        published = SYSTEMS[unit.system].published
        figures = []
        for name in METRICS:
            cell = interval_cell(unit.metrics[name])
            known = f"<small>published {published[name]:.4f}</small>" if name in published else ""
            figures.append(Cell(cell.content + known, cell.value))
        counts = " / ".join(str(unit.images[subset]) for subset in ("train", "val", "test"))
        rows.append(
            [_name(unit.system, colours), text_cell(_sources(unit)), text_cell(counts),
             number_cell(unit.leaks, "d"), *figures]
        )  # fmt: skip
    head = ["system", "backbone weights", "train / val / test", "test images with a copy in train"]
    words = SPLIT_WORDS[protocol]
    note = (
        "As the paper did it: single images at random, Adam 1e-5, batch 16, 24 epochs, threshold 0.5."
        if protocol == "paper"
        else "Source images and patients stay on one side; head by logistic regression, threshold from validation."
    )
    title = f"{words[0].upper()}{words[1:]}"
    return block(title, note, table([*head, *(NAMES[name] for name in METRICS)], rows, title))


def _comparisons(comparisons: Sequence[Comparison], colours: Mapping[str, int]) -> str:
    if not comparisons:
        return ""
    rows = [
        [
            _name(found.system, colours),
            text_cell(SPLIT_WORDS[found.protocol]),
            interval_cell(found.difference, "+.3f"),
            text_cell(found.verdict, words=True),
        ]
        for found in comparisons
    ]
    note = (
        "AUC of the paper's system minus that of the other, on the same test images; paired bootstrap that draws "
        "whole groups. Not corrected for the number of comparisons."
    )
    return block(
        "Fused against the others", note, table(["system", "split", "difference", "verdict"], rows, "Pairs")
    )


def _bars(units: Sequence[Unit], colours: Mapping[str, int]) -> str:
    drawings = "".join(
        f"<figure>{plots.bars(units, metric, NAMES[metric], colours)}</figure>" for metric in ("accuracy", "auc")
    )
    return block("Bars", "As Fig. 11, with intervals.", f'<div class="pair">{drawings}</div>')


def _roc(units: Sequence[Unit], protocol: str, colours: Mapping[str, int]) -> str:
    chosen = [unit for unit in units if unit.protocol == protocol]
    rows = [[_name(unit.system, colours), interval_cell(unit.metrics["auc"])] for unit in chosen]
    drawing = plots.roc(chosen, colours)
    title = f"ROC, {SPLIT_WORDS[protocol]}"
    return block(title, "As Fig. 7; dots are the operating points.",
                 beside(drawing, table(["system", "AUC"], rows, title), narrow=True))  # fmt: skip


def _confusions(dataset: Dataset, units: Sequence[Unit]) -> str:
    matrices = []
    for unit in units:
        title = f"{SYSTEMS[unit.system].title}, {'random' if unit.protocol == 'paper' else 'grouped'}"
        called = sigmoid(unit.logits) >= unit.threshold
        matrices.append((title, confusion(np.array(unit.y), called)))
    note = "Test images, and the share of the true class. The paper's Fig. 6: TP 886, TN 902, FP 13, FN 3."
    return confusions(note, dataset.labels, matrices)


def _curves(units: Sequence[Unit]) -> str:
    """Learning curves of the paper's system, or of the first system if the paper's did not run.

    A head trained in one step has no curve.
    """
    system = PROPOSED if any(unit.system == PROPOSED for unit in units) else units[0].system
    parts = []
    for unit in units:
        if unit.system != system or len(unit.histories[0]["loss"]) < 2:
            continue
        drawings = "".join(f"<figure>{plots.curves(unit, 0, m)}</figure>" for m in ("accuracy", "loss"))
        title = f"{SYSTEMS[system].title}, {SPLIT_WORDS[unit.protocol]}"
        parts.append(block(title, "As Figs. 4 and 5.", f'<div class="pair">{drawings}</div>'))
    return "".join(parts)


def _list(title: str, items: Sequence[str]) -> str:
    inner = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<section class="block"><h3>{escape(title)}</h3><ul>{inner}</ul></section>'


def _name(system: str, colours: Mapping[str, int]) -> Cell:
    title = SYSTEMS[system].title
    return Cell(key("circle", colours[system]) + escape(title), title)


def _sources(unit: Unit) -> str:
    words = dict.fromkeys(SOURCE_WORDS[source] for source in unit.sources.values())
    return ", ".join(words) if unit.trained else "untrained"


def _uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).convert("L").save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
