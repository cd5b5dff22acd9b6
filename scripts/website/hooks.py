"""What MkDocs asks while it builds the site (mkdocs.yml names this file).

The pages of the site are the documents of the repository, where they lie: a link from one to another is the same on
the site and in the checkout. The reference pages are written from the code. No text is copied by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.results.documents import guides, pages  # noqa: E402
from scripts.website import reference, words  # noqa: E402

_LINK = re.compile(r"\]\(([^)\s#]+)")
_MARK = re.compile(r"(?<!`)<!-- (?:(?:figure|table) [a-z0-9_]+|end) -->\n?")
_INLINE_MARK = re.compile(r"(?<!`)<!-- figure [a-z0-9_]+ -->(.*?)<!-- end -->", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Every document, every file that one of them links to, and the reference, by their paths in the checkout."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    documents = [path.as_posix() for path in site_documents()]
    linked = {link for path in documents for link in _linked(path)} | {"docs/site.css", "docs/site.js"}
    found = [File.generated(config, path, abs_src_path=str(ROOT / path)) for path in sorted({*documents, *linked})]
    found += [File.generated(config, path, content=text) for path, text in reference.pages().items()]
    return Files([*theme, *found])


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Take the marks of figures and tables away: in the middle of a sentence they would end the paragraph."""
    return _MARK.sub("", _INLINE_MARK.sub(r"\1", markdown))


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Explain each word of the glossary where it first stands on a page."""
    return html if page.file.src_uri == "CONTRIBUTING.md" else words.explained(html, words.glossary(ROOT))


def site_documents() -> list[Path]:
    """README, guides, the pages of docs and those of the project, by path from the root."""
    project = (Path(name) for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"))
    return sorted({*guides(ROOT), *pages(ROOT), *project})


def _linked(path: str) -> set[str]:
    """Files that a document links to and that are no documents: pictures, JSON, scripts."""
    found = set()
    for link in _LINK.findall((ROOT / path).read_text(encoding="utf-8")):
        target = ((ROOT / path).parent / link).resolve()
        if ":" not in link and target.is_file() and target.suffix != ".md":
            found.add(target.relative_to(ROOT).as_posix())
    return found
