"""Tables of the workstation's commands: as they are in a pipe, folded in a narrow terminal."""

from __future__ import annotations

import pytest

from sonoedge.train import tables
from sonoedge.train.markdown import markdown_table
from sonoedge.train.tables import Column, fitted, for_terminal

COLUMNS = (Column("file", 16, left=True), Column("accuracy", 24), Column("AUC", 24), Column("verdict", left=True))
ROWS = (
    ("tflite-int8", "0.948 [0.856, 0.988]", "0.981 [0.921, 0.999]", "PASS <- taken"),
    ("onnx-fp32", "failed: no such kernel on this machine"),
)
WIDE = """\
file                            accuracy                     AUC  verdict
tflite-int8         0.948 [0.856, 0.988]    0.981 [0.921, 0.999]  PASS <- taken
onnx-fp32        failed: no such kernel on this machine"""
FOLDED = """\
file             accuracy           AUC  verdict
tflite-int8         0.948         0.981  PASS <- taken
                  [0.856,       [0.921,
                   0.988]        0.999]
onnx-fp32 failed: no such kernel on this machine"""
LIST = """\
tflite-int8
  accuracy: 0.948
    [0.856, 0.988]
  AUC: 0.981 [0.921,
    0.999]
  verdict: PASS <-
    taken
onnx-fp32
  failed: no such
    kernel on this
    machine"""


@pytest.mark.parametrize(
    ("room", "text"), [(None, WIDE), (100, WIDE), (54, FOLDED), (20, LIST)], ids=["pipe", "wide", "narrow", "tiny"]
)
def test_a_table_fits_the_terminal(room: int | None, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "width", lambda: room)
    found = fitted(COLUMNS, ROWS)
    assert found == text
    assert room is None or max(map(len, found.splitlines())) <= room


@pytest.mark.parametrize("room", range(12, 90, 6))
def test_no_line_is_wider_and_no_word_is_lost(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "width", lambda: room)
    found = fitted(COLUMNS, ROWS, indent="  ")
    assert max(map(len, found.splitlines())) <= room
    assert "…" not in found
    if room >= 18:  # below, a word is longer than the terminal
        assert {word for row in ROWS for cell in row for word in cell.split()} <= set(found.split())


def test_markdown_is_drawn_for_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"# Title\n\n{markdown_table(['row', 'what'], [['a|b', 'one two three four'], ['c', '']])}\n\nEnd."
    monkeypatch.setattr(tables, "width", lambda: None)
    assert for_terminal(text) == text
    monkeypatch.setattr(tables, "width", lambda: 18)
    assert for_terminal(text) == "# Title\n\nrow  what\na|b  one two three\n     four\nc\n\nEnd."
