"""The tables of explanations-methods.json: which explanation to believe."""

from __future__ import annotations

from typing import Any

from sonoedge.train.markdown import markdown_table

_CRITERIA = {
    "insertion": "insertion ↑", "deletion": "deletion ↓", "road": "ROAD ↑", "pointing": "pointing game ↑",
    "mass": "relevance mass ↑", "rank": "relevance rank ↑", "sanity": "like a random head's ↓",
    "sparseness": "sparseness", "entropy": "entropy",
}  # fmt: skip
_NO_DIFFERENCE = {"value": 0.0, "low": 0.0, "high": 0.0}


def methods(body: dict[str, Any]) -> str:
    """Methods and controls x criteria; ▲ and ▼ beside Grad-CAM."""
    lines = []
    for row in body["methods"]["rows"]:
        differences = row["versus"].get("gradcam", {})
        cells = [
            _figure(row["criteria"][name]) + _mark(differences.get(name, _NO_DIFFERENCE)) for name in _CRITERIA
        ]
        lines.append([_title(row), *cells])
    return markdown_table(["method", *_CRITERIA.values()], lines)


def answers(body: dict[str, Any]) -> str:
    """Localisation on right and on wrong answers."""
    lines = [
        [
            _title(row),
            *(_figure(row[part].get(name)) for name in ("pointing", "mass") for part in ("right", "wrong")),
        ]
        for row in body["methods"]["rows"]
    ]
    head = ["method", "peak inside, right answers", "wrong answers", "mass inside, right answers", "wrong answers"]
    return markdown_table(head, lines)


def agreement(body: dict[str, Any]) -> str:
    """Mean rank correlation of every two maps of an image."""
    rows, found = body["methods"]["rows"], body["methods"]["agreement"]

    def cell(a: str, b: str) -> str:
        value = found.get(f"{a}|{b}", found.get(f"{b}|{a}"))
        return "1" if a == b else "–" if value is None else f"{value:.2f}"

    lines = [[_title(row), *(cell(row["method"], other["method"]) for other in rows)] for row in rows]
    return markdown_table(["", *(_title(row) for row in rows)], lines)


def cost(body: dict[str, Any]) -> str:
    """Runs of the model and seconds of one map."""
    lines = [
        [
            row["title"], f"{row['calls']:.0f}", f"{row['head_calls']:.0f}", f"{row['seconds']:.2f}",
            f"{row['early']['stable']} of {body['methods']['images']}",
        ]
        for row in body["methods"]["rows"] if not row["control"]
    ]  # fmt: skip
    return markdown_table(["method", "runs of the model", "of the head alone", "s, median", "stopped early"], lines)


def words(body: dict[str, Any]) -> str:
    """One line a method: what to make of it."""
    lines = [[row["title"], row["says"]] for row in body["methods"]["rows"] if not row["control"]]
    return markdown_table(["method", "what to make of it"], lines)


def images(body: dict[str, Any]) -> str:
    """How many images were measured, and how many of them are answered rightly."""
    found = body["methods"]
    return f"{found['images']} test images, {found['right']} answered rightly"


def _title(row: dict[str, Any]) -> str:
    return f"*{row['title']}*" if row["control"] else row["title"]


def _figure(found: dict[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return "–"
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _mark(difference: dict[str, Any]) -> str:
    if difference["value"] is None:
        return ""
    return " ▲" if difference["low"] > 0 else " ▼" if difference["high"] < 0 else ""
