"""Check a built site: every link and picture leads somewhere, nothing comes from another host, no list fell apart.

python scripts/website/links.py build/site
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"img": "src", "script": "src", "link": "href"}
"""What a browser loads by itself; such a thing from another host tells that host who reads."""
_NOT_LOADED = {"canonical", "prev", "next"}


class Page(HTMLParser):
    """Links, loaded files, anchors and paragraphs of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.paragraphs: list[str] = []
        self._inside = self._code = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what this tag names."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in _LOADED and _LOADED[tag] in values and values.get("rel") not in _NOT_LOADED:
            self.loaded.append(values[_LOADED[tag]])
        self._code = self._code or tag == "code"
        if tag == "p":
            self.paragraphs.append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        """A paragraph or a code span ends."""
        self._inside = self._inside and tag != "p"
        self._code = self._code and tag != "code"

    def handle_data(self, data: str) -> None:
        """The text of a paragraph, without code."""
        if self._inside and not self._code:
            self.paragraphs[-1] += data


def problems(site: Path) -> Iterator[str]:
    """One line for each fault."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        if name == "404.html":
            continue  # its links begin at the root of a server
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded:
                    yield f"{name}: loads {link} from another host"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or not target.is_relative_to(site.resolve()):
                yield f"{name}: no such file: {link}"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{name}: no such heading: {link}"
        for paragraph in page.paragraphs:
            if re.search(r"(?:^|\n)(?:[-*] |\d+\. |\|)", paragraph):
                yield f"{name}: a list or table became a paragraph: {paragraph.strip()[:60]!r}"
            if "<!--" in paragraph:
                yield f"{name}: a mark is to be seen: {paragraph.strip()[:60]!r}"


def main() -> int:
    """Print the faults; exit code 1 if there is one."""
    site = Path(sys.argv[1]).resolve()
    found = list(problems(site))
    print("\n".join(found), end="\n" if found else "")
    count = len(list(site.rglob("*.html")))
    print(f"{count} pages; {len(found)} faults")
    return 1 if found or not count else 0


if __name__ == "__main__":
    sys.exit(main())
