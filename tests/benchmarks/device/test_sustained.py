"""A sustained run: what is kept, what it says of the machine, its picture. Clock and machine are made up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sonoedge.benchmarks.device import sustained as module
from sonoedge.benchmarks.device.sustained import parse_duration, windows
from sonoedge.benchmarks.records.runfile import Thermal
from sonoedge.benchmarks.records.sustained import is_sustained, read_sustained
from sonoedge.benchmarks.report.sustained import over_time
from sonoedge.edge_runtime.errors import DataError, ModelError, UsageError
from tests.helpers.commands import Sono
from tests.helpers.places import VECTORS

OnDevice = Callable[..., subprocess.CompletedProcess[str]]
BUNDLE = VECTORS / "bundle"
FRAME_MS = 15.625
"""A 64th of a second: sums of it are exact."""


class MadeUp:
    """A machine whose frames take ``frame_ms(seconds)``; it heats up by a degree in ten seconds."""

    def __init__(self, frame_ms: Callable[[float], float], flags: Callable[[float], int | None]) -> None:
        self.now, self.frame_ms, self.flags = 1000.0, frame_ms, flags
        self.fail_after: tuple[float, BaseException] = (1e9, KeyboardInterrupt())

    def worker(self, spec: Any) -> MadeUp:
        return self

    def __enter__(self) -> MadeUp:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def ask(self, *, do: str, queries: int, seconds: float) -> dict[str, Any]:
        end, samples = self.now + seconds, []
        while self.now < end:
            if self.now - 1000 >= self.fail_after[0]:
                raise self.fail_after[1]
            samples.append(self.frame_ms(self.now - 1000))
            self.now += samples[-1] / 1e3
        return {"samples_ms": samples, "peak_bytes": 90_000_000}

    def thermal(self) -> Thermal:
        gone = self.now - 1000
        return Thermal(45 + gone / 10, 2400.0, self.flags(gone))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., MadeUp]:
    def make(frame_ms: Callable[[float], float], flags: Callable[[float], int | None] = lambda s: None) -> MadeUp:
        made = MadeUp(frame_ms, flags)
        monkeypatch.setattr(module, "Worker", made.worker)
        monkeypatch.setattr(module, "thermal", made.thermal)
        monkeypatch.setattr(module, "perf_counter", lambda: made.now)
        return made

    return make


def test_a_steady_machine(machine: Callable[..., MadeUp], tmp_path: Path, sonoedge: Sono) -> None:
    machine(lambda s: FRAME_MS)
    out = tmp_path / "steady.json"
    result = sonoedge("benchmark", "--sustained", "10m", "--bundle", BUNDLE, "--out", out)
    assert (result.code, "It kept its speed" in result.out) == (0, True), result.err
    run = read_sustained(out)
    assert (run.slowdown, run.held_back, run.stopped, len(run.windows)) == (1.0, None, "", 60)
    assert (run.whole.frames, run.whole.p50_ms, run.whole.p99_ms) == (600 * 64, FRAME_MS, FRAME_MS)
    assert len(run.moments) == 600
    assert (run.moments[-1].temperature_c, run.moments[-1].peak_bytes) == (pytest.approx(105.0), 90_000_000)
    assert "45 to 105 °C; 2400 to 2400 MHz" in run.verdict


def test_a_machine_that_throttles(machine: Callable[..., MadeUp], tmp_path: Path, sonoedge: Sono) -> None:
    machine(lambda s: FRAME_MS if s < 60 else 1.5 * FRAME_MS, lambda s: 0 if s < 60 else 0x4)
    result = sonoedge("benchmark", "--sustained", "2m", "--bundle", BUNDLE, "--out", tmp_path / "hot.json")
    run = read_sustained(tmp_path / "hot.json")
    assert (result.code, run.slowdown) == (0, 1.5)
    assert "It slowed down: a frame of the last tenth took 1.50 times" in result.out
    assert "held back during the run: throttled" in run.verdict
    assert [round(w.p50_ms) for w in run.windows] == [16] * 30 + [23] * 30


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [(KeyboardInterrupt(), 130, "interrupted"), (ModelError("The process crashed."), 6, "The process crashed.")],
    ids=str,
)
def test_what_was_measured_is_kept(
    machine: Callable[..., MadeUp], tmp_path: Path, sonoedge: Sono, error: BaseException, code: int, words: str
) -> None:
    machine(lambda s: FRAME_MS).fail_after = (30.0, error)
    result = sonoedge("benchmark", "--sustained", "1h", "--bundle", BUNDLE, "--out", tmp_path / "part.json")
    assert (result.code, f"stopped after 30 of 3600 s: {words}" in result.err) == (code, True)
    run = read_sustained(tmp_path / "part.json")
    assert (run.stopped, len(run.moments), run.whole.frames) == (words, 30, 30 * 64)


def test_nothing_was_measured(machine: Callable[..., MadeUp], tmp_path: Path, sonoedge: Sono) -> None:
    machine(lambda s: FRAME_MS).fail_after = (-1.0, KeyboardInterrupt())
    result = sonoedge("benchmark", "--sustained", "1h", "--bundle", BUNDLE, "--out", tmp_path / "part.json")
    assert (result.code, (tmp_path / "part.json").exists()) == (130, False)


def test_few_frames_are_no_verdict(machine: Callable[..., MadeUp], tmp_path: Path, sonoedge: Sono) -> None:
    machine(lambda s: 500.0)
    result = sonoedge("benchmark", "--sustained", "20s", "--bundle", BUNDLE, "--out", tmp_path / "few.json")
    run = read_sustained(tmp_path / "few.json")
    assert (run.slowdown, len(run.windows), "Too few frames" in result.out) == (None, 10, True)


def test_windows_hold_every_frame_once() -> None:
    found = windows([0.0, 0.5, 3.9, 9.99], [100.0] * 4, 10.0)
    assert [(w.start_s, w.end_s, w.frames) for w in found] == [(0, 1, 2), (3, 4, 1), (9, 10, 1)]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("7.5s", 7.5)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["10x", "10", "", "nan", "-5m", "infs", "0s", "0.9s", "25h", "1h30m", "1e3s", "٣٠s"]
)
def test_bad_durations(text: str, tmp_path: Path, sonoedge: Sono) -> None:
    arguments = ["--bundle", BUNDLE, "--out", tmp_path / "x.json", f"--sustained={text}"]
    result = sonoedge("benchmark", *arguments)
    assert (result.code, "--sustained takes" in result.err) == (UsageError.exit_code, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--artifacts", "a,b"], "one artifact"),
        (["--artifacts", "nothing"], "no artifact 'nothing'"),
        (["--data", "x"], "leave --data out"),
        (["--device-run", "x"], "leave --device-run out"),
        (["--autotune"], "one of them"),
        (["--threads", "0"], "at least 1"),
    ],
    ids=str,
)
def test_bad_input(arguments: list[str], words: str, tmp_path: Path, sonoedge: Sono) -> None:
    out = tmp_path / "x.json"
    result = sonoedge("benchmark", "--sustained", "10m", "--bundle", BUNDLE, "--out", out, *arguments)
    assert (result.code, words in result.err, out.exists()) == (UsageError.exit_code, True, False), result.err


@pytest.mark.long
def test_the_device_install_suffices(tmp_path: Path, on_device: OnDevice) -> None:
    """The real thing for a second, in an interpreter and a worker that refuse every package of the workstation."""
    out = tmp_path / "run.json"
    done = on_device(tmp_path, "benchmark", "--sustained", "1s", "--bundle", BUNDLE, "--out", out, "--json")
    assert (done.returncode, json.loads(done.stdout)["kind"]) == (0, "sonoedge-sustained-run"), done.stderr
    run = read_sustained(out)
    assert (run.artifact, run.moments[0].peak_bytes is not None) == ("tflite-int8", True)


def test_the_report_draws_it(machine: Callable[..., MadeUp], tmp_path: Path, sonoedge: Sono) -> None:
    machine(lambda s: 20.0 + s / 10)
    out = tmp_path / "run.json"
    assert sonoedge("benchmark", "--sustained", "1m", "--bundle", BUNDLE, "--out", out, "--quiet").code == 0
    for _ in range(2):  # the second time into the same folder
        assert sonoedge("report", out, "--out", tmp_path / "report").code == 0
    page = (tmp_path / "report/sustained.html").read_text()
    assert page.count("<svg") == 3
    assert "It slowed down" in page
    refused = sonoedge("report", out, "--baseline", out, "--out", tmp_path / "report")
    assert (refused.code, "sustained runs" in refused.err) == (UsageError.exit_code, True)


def test_one_value_and_none_can_be_drawn() -> None:
    assert "1 at first" in over_time("Clock", "MHz", [("MHz", [(1.0, 1.0)]), ("none", [])], 1.0)


def test_files_that_are_no_sustained_runs(machine: Callable[..., MadeUp], tmp_path: Path, sonoedge: Sono) -> None:
    machine(lambda s: FRAME_MS)
    out = tmp_path / "run.json"
    sonoedge("benchmark", "--sustained", "10s", "--bundle", BUNDLE, "--out", out)
    body = json.loads(out.read_text())
    for change in ({"schema_version": 2}, {"windows": []}, {"slowdown": "fast"}, {"more": 1}):
        out.write_text(json.dumps({**body, **change}))
        assert is_sustained(out)
        with pytest.raises(DataError):
            read_sustained(out)
        assert sonoedge("report", out, "--out", tmp_path / "report").code == DataError.exit_code
    out.write_text("[")
    assert not is_sustained(out)
