"""The evaluation of explanations as data, as JSON and as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sonoedge.benchmarks.explanations.faithfulness import Faithfulness
from sonoedge.benchmarks.explanations.localisation import Localisation
from sonoedge.benchmarks.explanations.maps import Fidelity, Sanity
from sonoedge.benchmarks.explanations.ruler.comparison import MethodComparison
from sonoedge.benchmarks.explanations.ruler.wording import methods_section
from sonoedge.benchmarks.explanations.timing import ExplanationCost
from sonoedge.benchmarks.retention.wording import shown
from sonoedge.edge_runtime.device.latency import Latency
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.evaluation.intervals import Interval
from sonoedge.train.markdown import markdown_table

REPORT = "explanation.json"
METHODS_PICTURE = "methods.png"
_COLUMNS = {
    "pointing": "pointing game",
    "energy": "energy inside",
    "iou": "IoU",
    "focus": "hot area",
    "precision": "hot area inside",
    "noise": "heat outside",
}


@dataclass(frozen=True)
class ExplanationReport:
    """All results; a sequence is empty if its part was not asked for or cannot be measured."""

    bundle: str
    weights: Mapping[str, str]
    machine: Mapping[str, Any]
    notes: Sequence[str]
    fidelity: Sequence[Fidelity]
    localisation: Sequence[Localisation]
    models: Sequence[Localisation]
    faithfulness: Sequence[Faithfulness]
    sanity: Sanity | None
    costs: Sequence[ExplanationCost]
    latency: Mapping[str, Latency]
    methods: MethodComparison | None = None


def to_json(report: ExplanationReport) -> dict[str, Any]:
    """Plain JSON types; NaN becomes null."""
    body = asdict(report)
    body["fidelity"] = [{**asdict(row), "passed": row.passed} for row in report.fidelity]
    plain: dict[str, Any] = _plain({**body, "intended_use": INTENDED_USE})
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 7) if math.isfinite(value) else None
    return value


def write_report(report: ExplanationReport, folder: Path) -> None:
    """Write ``explanation.json`` and ``explanation.md``."""
    picture = METHODS_PICTURE if report.methods and (folder / METHODS_PICTURE).is_file() else None
    write_text_atomic(folder / "explanation.md", markdown(report, picture))
    write_text_atomic(folder / REPORT, json.dumps(to_json(report), indent=2, allow_nan=False) + "\n")


def markdown(report: ExplanationReport, picture: str | None = None) -> str:
    """All tables with explanations, as Markdown; ``picture`` is a link to the cases of all methods."""
    m = report.machine
    parts = [f"# Explanations of {report.bundle}", f"**{INTENDED_USE}**"]
    parts += ["\n".join(f"- {note}" for note in report.notes)] if report.notes else []
    if report.fidelity:
        parts += ["## Is the explanation kept?", fidelity_table(report.fidelity)]
    if report.localisation:
        parts += ["## Does it point at the lesion?", localisation_table(report.localisation)]
    if report.models:
        parts += [
            "## Models compared (the paper's Table IV as numbers)",
            localisation_table(report.models),
            "Clinical interpretability, the fourth column of that table, needs readers; it is not measured here.",
        ]
    if report.faithfulness:
        parts += ["## Does the answer hang on the hot pixels?", faithfulness_table(report.faithfulness)]
    if report.sanity:
        parts += ["## Sanity", sanity_lines(report.sanity)]
    if report.methods:
        parts += ["## Which explanation to believe?", methods_section(report.methods, picture)]
    if report.costs:
        parts += [
            "## What it costs",
            cost_table(report.costs, report.latency),
            f"{m['processor']}, {m['threads']} threads.",
        ]
    return "\n\n".join(parts) + "\n"


def fidelity_table(rows: Sequence[Fidelity]) -> str:
    """One line per set and artifact: median (5th percentile) over the images."""
    note = (
        "Against GradientTape on the float Keras model, for the class that model decides; median (5th percentile)."
    )
    head = ["images", "artifact", "precision", "compared", "cosine", "before the ReLU", "Spearman"]
    lines = []
    for r in rows:
        cells = [f"{v[0]:.5f} ({v[1]:.5f})" for v in (r.cosine, r.signed, r.spearman, r.top_iou)]
        compared, verdict = f"{r.compared} of {r.images}", "yes" if r.passed else "**no**"
        lines.append([r.subset, r.artifact, r.precision, compared, *cells, r.bound, verdict])
    return f"{note}\n\n{markdown_table([*head, 'IoU of the top fifth', 'bound', 'kept'], lines)}"


def localisation_table(rows: Sequence[Localisation]) -> str:
    """One line per subset and method, with intervals, and a line of chance for each subset."""
    note = (
        "Means with 95 % bootstrap intervals by group. Chance is what a map that knows nothing would get: the "
        "share of the image that is lesion. IoU at the fixed threshold (in brackets) that was best on validation "
        "images. Hot: at least half the peak. ▲ and ▼: above and below the centre prior, the 95 % interval of the "
        "paired difference without zero."
    )
    lines: list[list[object]] = []
    for subset in dict.fromkeys(row.subset for row in rows):
        found = [row for row in rows if row.subset == subset]
        chance = f"{found[0].metrics['lesion'].value:.3f}"
        lines.append([subset, "*chance*", found[0].images, chance, chance, chance, "–", chance, "–", "–"])
        for row in found:
            cells = [shown(row.metrics[name]) + _beside(row.versus_centre.get(name)) for name in _COLUMNS]
            cells[2] += f" ({row.threshold:.2f})"
            lines.append([subset, row.method, row.images, *cells, row.zero_maps])
    return f"{note}\n\n{markdown_table(['images', 'map', 'n', *_COLUMNS.values(), 'zero maps'], lines)}"


def faithfulness_table(rows: Sequence[Faithfulness]) -> str:
    """Areas under the deletion and insertion curves, one line per order."""
    note = (
        "Area under the probability of the decided class while the hottest pixels are deleted first (low is "
        "faithful) or inserted first (high is faithful)."
    )
    lines = [[r.method, r.images, shown(r.deletion), shown(r.insertion)] for r in rows]
    return f"{note}\n\n{markdown_table(['order', 'images', 'deletion', 'insertion'], lines)}"


def sanity_lines(found: Sanity) -> str:
    """The sanity checks as a list."""
    lines = [
        f"- median cosine between the maps of an image and its mirror image, mirrored back: {found.mirrored:.3f}",
        f"- images on which nothing speaks for the predicted class: {found.zero_maps}",
        f"- cells hot for both classes at once: {'none' if found.overlap == 0 else 'some'}",
    ]
    if found.randomised_head is not None:
        lines.insert(0, f"- median cosine with the maps of a randomised head: {found.randomised_head:.3f}")
    return "\n".join(lines)


def cost_table(rows: Sequence[ExplanationCost], latency: Mapping[str, Latency]) -> str:
    """One line per artifact, compared with the Keras recipes; their own latency follows as a list."""
    note = (
        "Milliseconds p50 from a decoded frame to the answer, all interleaved in one run. *more* is what the "
        "explaining head takes more than a head with the logit alone."
    )
    head = ["artifact", "plain", "explained", "more", "ratio", "eager GradientTape", "compiled GradientTape"]
    lines = [
        [
            r.artifact, f"{r.plain_ms:.1f}", f"{r.explained_ms:.1f}", f"{r.head_ms:.3f}", f"{r.ratio:.4f}",
            f"{r.eager_over_explained}x", f"{r.compiled_over_explained}x",
        ]
        for r in rows
    ]  # fmt: skip
    keras = [f"- {name}: {value.p50_ms:.0f} ms" for name, value in latency.items() if name.startswith("Keras")]
    return "\n".join([note, "", markdown_table(head, lines), "", *keras])


def _beside(difference: Interval | None) -> str:
    if difference is None:
        return ""
    return " ▲" if difference.low > 0 else " ▼" if difference.high < 0 else ""
