"""Texts for users, one JSON table per language; the command line, the page and the Android app share them.

verdicts  code -> ``name`` (a heading) and ``text`` (a sentence; ``{label}`` and ``{reasons}`` are filled in)
reasons   code -> clause for ``{reasons}``; several are joined by ``and``
hints     code -> sentence about the picture's quality
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

LANGUAGE = "en"
INTENDED_USE = (
    "Research use only. Not a medical device: not cleared or approved for diagnosis, triage or treatment."
)


@cache
def words(language: str = LANGUAGE) -> dict[str, Any]:
    """The table of a language; do not change it."""
    table: dict[str, Any] = json.loads((Path(__file__).parent / f"{language}.json").read_text(encoding="utf-8"))
    return table
