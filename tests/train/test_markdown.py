"""Tables in Markdown."""

from __future__ import annotations

from sonoedge.train.markdown import markdown_table


def test_a_table() -> None:
    assert markdown_table(["file", ""], [["a|b", 3], ["", 0]]) == "| file | |\n|---|---|\n| a\\|b | 3 |\n| | 0 |"
