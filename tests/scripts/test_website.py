"""The site: reference from the code, words explained once, and a link check that finds something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.website import drawings, links, reference, words
from sonoedge.edge_runtime import cli, errors
from tests.helpers.places import ROOT

PAGES = reference.pages()


def test_every_command_has_its_help() -> None:
    text = "".join(PAGES.values())
    for name in cli.COMMANDS:
        assert f"\n## sonoedge {name}\n" in text
        assert f"usage: sonoedge {name} " in text
    assert str(Path.home()) not in text and str(ROOT) not in text


def test_every_exit_code_and_variable_is_there() -> None:
    codes = PAGES["docs/reference/exit-codes.md"]
    for name in dir(errors):
        if name.endswith("Error"):
            assert f"`{name}`" in codes, name
    variables = {variable.name: variable for variable in reference.variables()}
    assert {"SONOEDGE_BUNDLE", "SONOEDGE_POLICY", "SONOEDGE_TOKEN", "SONOEDGE_KEY_PASSWORD"} <= variables.keys()
    assert all(variable.about.endswith((".", ";")) for variable in variables.values()), variables
    used = set(
        re.findall(r"\bSONOEDGE_[A-Z_]+\b", "".join(p.read_text() for p in (ROOT / "edge_runtime").rglob("*.py")))
    )
    assert used <= variables.keys()


def test_the_public_names_are_those_of_the_package() -> None:
    import sonoedge

    assert reference.public("sonoedge") == sonoedge.__all__
    assert all(
        f"\n        - {name}\n" in PAGES["docs/reference/python.md"] for name in ("load", "Result", "export")
    )


def test_a_word_is_explained_where_it_first_stands() -> None:
    meanings = {"bundle": "the folder", "gate": "a test", "run": "everyday"}
    html = "<h2>bundle</h2><p><code>gate</code> <a href='#'>gate</a> Bundles, a bundle, the gate, a run.</p>"
    assert words.explained(html, meanings) == (
        "<h2>bundle</h2><p><code>gate</code> <a href='#'>gate</a> "
        '<abbr title="the folder">Bundles</abbr>, a bundle, the <abbr title="a test">gate</abbr>, a run.</p>'
    )
    glossary = words.glossary(ROOT)
    assert glossary["bundle"] == "the folder that goes to the device" and "golden vectors" in glossary


def test_drawings_are_written_from_their_table() -> None:
    for name, drawing in drawings.DRAWINGS.items():
        assert (drawings.FOLDER / f"{name}.svg").read_text(encoding="utf-8") == drawings.svg(drawing)
        for box in drawing.boxes:
            assert box.x + box.width <= drawing.width and box.y + box.height <= drawing.height, (
                f"{name}: {box.text}"
            )
            # A letter of this size is at most 8 pixels wide on average.
            assert max(map(len, box.text.split("\n"))) * 7.4 <= box.width + 6, f"{name}: {box.text}"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<a href='nothing.html'>a</a>", "no such file: nothing.html"),
        ("<a href='b.html#nothing'>a</a>", "no such heading: b.html#nothing"),
        ("<img src='c.png'>", "no such file: c.png"),
        ("<script src='https://example.org/x.js'></script>", "loads https://example.org/x.js"),
        ("<p>Three:\n- one\n- two</p>", "a list or table became a paragraph"),
        ("<p>of &lt;!-- end --&gt;</p>", "a mark is to be seen"),
    ],
)
def test_the_link_check_finds(body: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text("<h2 id='here'>b</h2>")
    (tmp_path / "a.html").write_text(
        "<a href='b.html#here'>b</a> <a href='https://example.org'>c</a><p><code>- x</code></p>"
    )
    assert list(links.problems(tmp_path)) == []
    (tmp_path / "a.html").write_text(body)
    (found,) = links.problems(tmp_path)
    assert fault in found
