"""Tables and the counter of progress: never wider than the terminal, and never in a pipe."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest

from sonoedge.edge_runtime import terminal
from sonoedge.edge_runtime.terminal import Column, Progress, aligned, duration, fitted, hanging
from tests.helpers.places import ROOT

COLUMNS = (
    Column("artifact", 16, left=True),
    Column("p50 ms", 12),
    Column("peak MB", 12),
    Column("verdict", left=True),
)
ROWS = (
    ("tflite-int8", "12.3", "45.6", "PASS"),
    ("openvino-int8", "8.0", "90.1", ""),
    ("onnx-fp32", "failed: there is no interpreter for it on this machine"),
)
WIDE = """\
artifact              p50 ms     peak MB  verdict
tflite-int8             12.3        45.6  PASS
openvino-int8            8.0        90.1
onnx-fp32        failed: there is no interpreter for it on this machine"""
TIGHT = """\
artifact      p50 ms peak MB  verdict
tflite-int8     12.3    45.6  PASS
openvino-int8    8.0    90.1
onnx-fp32     failed: there is no
    interpreter for it on this machine"""
LIST = """\
tflite-int8
  p50 ms: 12.3
  peak MB: 45.6
  verdict: PASS
openvino-int8
  p50 ms: 8.0
  peak MB: 90.1
onnx-fp32
  failed: there is
    no interpreter
    for it on this
    machine"""


@pytest.mark.parametrize(
    ("room", "text"), [(None, WIDE), (200, WIDE), (38, TIGHT), (20, LIST)], ids=["pipe", "wide", "narrow", "tiny"]
)
def test_a_table_fits_the_terminal(room: int | None, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "width", lambda: room)
    found = fitted(COLUMNS, ROWS)
    assert found == text
    assert room is None or max(map(len, found.splitlines())) <= room


def test_a_long_cell_widens_its_column_only() -> None:
    lines = aligned(
        [Column("a", 3, left=True), Column("b", 3), Column("c", 3)], [("x", "1234567", "8")], indent=" "
    )
    assert lines == " a         b  c\n x   1234567  8"


def test_standard_output_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "33")
    assert terminal.width() is None
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert terminal.width() == 33


@pytest.mark.parametrize(
    ("room", "text"),
    [
        (None, "name          one two three four five six seven"),
        (40, "name          one two three four five\n              six seven"),
        (24, "name\n    one two three four\n    five six seven"),
    ],
)
def test_text_goes_on_below_its_beginning(room: int | None, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "width", lambda: room)
    assert hanging("name          ", "one two three four five six seven") == text


class Clock:
    """Seconds that pass only if a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_counts_and_estimates(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clock = Clock()
    with Progress(300, "images", clock=clock) as progress:
        clock.now = 0.05
        progress.step()
        assert capsys.readouterr().err == ""  # too soon after the beginning to be read
        clock.now = 20.0
        progress.step()
        assert capsys.readouterr().err == "\r2 of 300 images (0 %), 49 min 40 s left"
        progress.say("an answer")
        assert capsys.readouterr() == ("an answer\n", "")
    assert capsys.readouterr().err == f"\r{' ' * 39}\r"


def test_a_line_on_the_same_terminal_stands_above_the_counter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clock = Clock()
    progress = Progress(4, "images", clock=clock)
    clock.now = 1.0
    progress.step()
    counter = "1 of 4 images (25 %), 3 s left"
    progress.say("error: no image", sys.stderr)
    assert capsys.readouterr().err == f"\r{counter}\r{' ' * len(counter)}\rerror: no image\n\r{counter}"


@pytest.mark.parametrize("why", ["no terminal", "quiet", "one image", "pipe"])
def test_no_progress(why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: why != "no terminal")
    reader, writer = os.pipe()
    if why == "pipe":
        monkeypatch.setattr(sys.stdout, "fileno", lambda: writer)
    clock = Clock()
    with Progress(1 if why == "one image" else 9, "images", wanted=why != "quiet", clock=clock) as progress:
        clock.now = 1.0
        progress.step()
    os.close(reader)
    os.close(writer)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.7, "1 min 0 s"), (130, "2 min 10 s"), (3900, "1 h 5 min")]
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def in_terminal(columns: int, *arguments: object) -> tuple[int, str]:
    """Run ``sonoedge ARGUMENTS`` with a pseudo-terminal for standard output and error.

    Args:
        columns: of the terminal.
        arguments: of the command.

    Returns:
        Exit code and what the terminal received.
    """
    import fcntl
    import pty
    import termios

    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "sonoedge.edge_runtime", *map(str, arguments)],
        cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal, env=environment,
    )  # fmt: skip
    os.close(terminal)
    received = b""
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # Linux: the other end is closed
            part = b""
        if not part:
            break
        received += part
    os.close(controller)
    return process.wait(), received.decode().replace("\r\n", "\n")


SENTENCES = (
    "`sonoedge COMMAND",
    "Put a breast",
    "Research use",
    "how long an image",
    "tests/vectors/bundle: digests",
)
"""Beginnings of long lines that the terminal itself may break."""


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="terminals of POSIX")
@pytest.mark.parametrize("columns", [60, 40])
@pytest.mark.parametrize(
    "command", [["--help"], ["verify", "tests/vectors/bundle"], ["doctor", "--bundle", "tests/vectors/bundle"]]
)
def test_nothing_is_wider_than_a_real_terminal(command: list[str], columns: int) -> None:
    code, text = in_terminal(columns, *command)
    assert code == 0, text
    long = [line for line in text.splitlines() if len(line) > columns and not line.startswith(SENTENCES)]
    assert long == []
    assert "verify" in text or "tflite-fp32" in text
