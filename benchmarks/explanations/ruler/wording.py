"""The comparison of methods as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from sonoedge.benchmarks.explanations.ruler.comparison import MethodComparison, MethodRow, sign_of
from sonoedge.benchmarks.explanations.ruler.criteria import CRITERIA
from sonoedge.benchmarks.retention.wording import shown
from sonoedge.edge_runtime.explain.methods.table import GRADCAM
from sonoedge.train.evaluation.intervals import Interval
from sonoedge.train.markdown import markdown_table

_RULES = (
    "Means over the images with 95 % bootstrap intervals by group; predicted class. ▲ and ▼: above and below "
    "Grad-CAM, the 95 % interval of the paired difference without zero. Insertion, ROAD, pointing game, "
    "relevance mass and rank: high is good. Deletion: low is good. Likeness to the map of a random head: low "
    "is good, 1 is a map that does not depend on the model. Sparseness and entropy say how simple a map is, "
    "not how right."
)


def methods_section(found: MethodComparison, picture: str | None = None) -> str:
    """All tables, one sentence for each method, and the picture of cases, if there is one."""
    parts = [
        f"{found.artifact}, {found.images} images, {found.right} answered rightly, {found.masked} with a mask; "
        f"a random head on {found.sanity_images}.",
        f"{_RULES}\n\n{criteria_table(found)}",
        "\n".join(f"- **{row.title}**: {row.says}" for row in found.rows if not row.control),
        f"Peak in the lesion and heat inside it, on right and on wrong answers apart:\n\n{answers_table(found)}",
        f"Mean rank correlation of two methods' maps of an image:\n\n{agreement_table(found)}",
        f"What one map costs:\n\n{cost_table(found)}",
    ]
    if picture:
        parts.append(f"![Cases side by side]({picture})")
    return "\n\n".join(parts)


def criteria_table(found: MethodComparison) -> str:
    """Methods and controls x criteria."""
    lines = [
        [f"*{row.title}*" if row.control else row.title, *(_cell(row, criterion.name) for criterion in CRITERIA)]
        for row in found.rows
    ]
    return markdown_table(["method", *(criterion.title for criterion in CRITERIA)], lines)


def answers_table(found: MethodComparison) -> str:
    """Localisation on right and wrong answers."""
    head = ["method", "peak, right", "peak, wrong", "mass, right", "mass, wrong", "rank, right", "rank, wrong"]
    lines = [
        [row.title, *(_of(part, key) for key in ("pointing", "mass", "rank") for part in (row.right, row.wrong))]
        for row in found.rows
    ]
    return markdown_table(head, lines)


def agreement_table(found: MethodComparison) -> str:
    """Rank correlations, every method with every other."""
    names = [row.method for row in found.rows]
    titles = {row.method: row.title for row in found.rows}

    def cell(a: str, b: str) -> str:
        if a == b:
            return "1"
        value = found.agreement.get(f"{a}|{b}", found.agreement.get(f"{b}|{a}", float("nan")))
        return "–" if value != value else f"{value:.2f}"

    return markdown_table(
        ["", *(titles[b] for b in names)], [[titles[a], *(cell(a, b) for b in names)] for a in names]
    )


def cost_table(found: MethodComparison) -> str:
    """Calls and seconds of one map."""
    lines = [
        [
            row.title, f"{row.calls:.0f}", f"{row.head_calls:.0f}",
            "with the answer" if row.method == GRADCAM else f"{row.seconds:.2f}",
            row.early["stable"], row.early["time"], row.zero_maps,
        ]
        for row in found.rows if not row.control and row.seconds is not None
    ]  # fmt: skip
    head = [
        "method",
        "runs of the model",
        "of the head alone",
        "s, median",
        "stopped: stable",
        "stopped: time",
        "zero maps",
    ]
    return markdown_table(head, lines)


def _cell(row: MethodRow, name: str) -> str:
    mark = {1: " ▲", -1: " ▼", 0: ""}[sign_of(row.versus.get(GRADCAM, {}).get(name))]
    return _of(row.criteria, name) + mark


def _of(found: Mapping[str, Interval], name: str) -> str:
    interval = found.get(name)
    return "–" if interval is None or interval.value != interval.value else shown(interval)
