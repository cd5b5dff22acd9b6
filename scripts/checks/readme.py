"""Is the README short and plain? At most 700 words in all, Flesch reading ease of its prose at least 50.

    python scripts/checks/readme.py

Flesch (1948): 206.835 - 1.015 words per sentence - 84.6 syllables per word; syllables are counted by their vowels.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
MOST_WORDS = 700
LEAST_EASE = 50.0


def main() -> int:
    """Print both figures; exit code 1 if one misses its aim."""
    text = README.read_text(encoding="utf-8")
    words, ease = len(text.split()), reading_ease(prose(text))
    print(f"README: {words} words (at most {MOST_WORDS}), reading ease {ease:.0f} (at least {LEAST_EASE:.0f})")
    return 0 if words <= MOST_WORDS and ease >= LEAST_EASE else 1


def prose(markdown: str) -> str:
    """The sentences of a document: no code, tables, pictures, headings and addresses."""
    text = re.sub(r"```.*?```", "\n\n", markdown, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    blocks = [block for block in re.split(r"\n\s*\n", text) if not block.lstrip().startswith(("#", "|"))]
    lines = [re.sub(r"\s+", " ", item) for block in blocks for item in re.split(r"\n(?=[-*] )", block)]
    return "\n".join(re.sub(r"`[^`]*`|[*_>]", "", line).strip() for line in lines)


def reading_ease(text: str) -> float:
    """Flesch's score; a higher one is easier, 60 to 70 is plain English. ``text`` has a paragraph a line."""
    sentences = [s for s in re.split(r"(?<=[.:?!])\s+|\n", text) if re.search(r"[A-Za-z]{2}", s)]
    words = re.findall(r"[A-Za-z][A-Za-z'-]*", text)
    syllables = sum(map(_syllables, words))
    return 206.835 - 1.015 * len(words) / len(sentences) - 84.6 * syllables / len(words)


def _syllables(word: str) -> int:
    lower = word.lower()
    groups = len(re.findall(r"[aeiouy]+", lower))
    silent = re.search(r"[^l]e$|e[ds]$", lower) is not None and not lower.endswith("ee")
    return max(1, groups - silent)


if __name__ == "__main__":
    sys.exit(main())
