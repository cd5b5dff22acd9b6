"""Measured figures that somebody typed: what they look like, and what looks so and is none."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_TYPED = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # 0.908 [0.877, 0.937] and -0.012 [-0.025, -0.002]
        rf"{_NUMBER} ?\[[-+−]?{_NUMBER}, ?[-+−]?{_NUMBER}[^\]]*\]",
        # 0 of 94, 2 of the 628
        r"\b\d[\d,]* of (?:the )?\d[\d,]*\b",
        # 12.3 ms, 1.4 s, 57 ms a frame
        rf"{_NUMBER}(?:[–-]{_NUMBER})? ?(?:ms|milliseconds)\b",
        r"\b\d+\.\d+ ?(?:s|seconds|minutes|min|hours)\b",
        # 4.7 times, 1.86x
        rf"\b{_NUMBER} times\b",
        r"\b\d+(?:\.\d+)?x (?:as|faster|slower|smaller)\b",
        # p50 57, p90 / 66.6
        rf"\bp(?:50|90|95|99)\b[ :/=]*{_NUMBER}",
        # 38.4 MB, 146 MB, 2.3 GB, 125–323 MiB; 32 MiB is a limit
        rf"\b{_NUMBER} ?MB\b",
        r"\b\d+(?:\.\d+|–\d+) ?(?:kB|MiB|GB|GiB)\b",
        # AUC 0.97, an accuracy of 0.904, a median cosine of 0.94
        r"\b(?:AUC|accuracy|sensitivity|specificity|cosine|Brier score|correlation)\b[^\d\n|`]{0,24}[01]?\.\d{2,}",
        # 0.9998, beside whatever word
        r"\b[01]\.\d{3,}\b",
        # 33.8 %, 47 %; 75% is code
        rf"\b{_NUMBER} %",
        # 49.8 frames a second
        rf"\b{_NUMBER} (?:frames|images) (?:a|per) second\b",
    )
]
# Limits, aims and statistical levels are chosen, not measured.
_ALLOWED = re.compile(
    rf"(?:at least|at most|up to|limit of|more than|less than|above|fewer than) {_NUMBER}(?: ?%| times)?"
    r"|\b(?:95|99|99\.[59]) %"
    r"|--[a-z-]+ [\w.]+",
    re.IGNORECASE,
)


def typed_figures(text: str) -> Iterator[tuple[int, str]]:
    """Line number and figure of each; the text holds no written blocks."""
    for number, line in enumerate(text.splitlines(), 1):
        # What is allowed becomes blank, so that a pattern does not reach across it.
        rest = _ALLOWED.sub("·", line)
        spans: list[tuple[int, int]] = []
        for pattern in _TYPED:
            for match in pattern.finditer(rest):
                if not any(start < match.end() and match.start() < end for start, end in spans):
                    spans.append(match.span())
                    yield number, match[0]
