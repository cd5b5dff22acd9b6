"""How a table was made, in words: from the keys that `benchmarks.measure.environment.how_made` writes."""

from __future__ import annotations

import textwrap
from typing import Any

_WIDTH = 120


def caption(body: dict[str, Any], link: str) -> str:
    """Commands with all their options, date, machine, threads, weights, and a link to the JSON; wrapped lines."""
    commands = ", ".join(f"`{command}`" for command in body["commands"])
    facts = "; ".join([body["date"], _machine(body), f"weights: {body['weights']}"])
    return _wrapped(f"*Made with {commands}. {facts}. Figures: [{link.rpartition('/')[2]}]({link}).*")


def _machine(body: dict[str, Any]) -> str:
    machine = body["machine"]
    if not isinstance(machine, dict):
        return machine or "machine not recorded"
    threads = machine.get("threads") or body.get("protocol", {}).get("threads")
    dots = machine.get("int8_dot_products")
    parts = [
        machine.get("processor") or "processor not recorded",
        f"{machine['cores']} cores",
        f"{threads} threads" if threads else "",
        "" if dots is None else f"int8 dot products: {', '.join(dots) or 'none'}",
    ]
    return ", ".join(part for part in parts if part)


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False))
