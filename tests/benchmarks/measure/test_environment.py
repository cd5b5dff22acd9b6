"""The machine in words, and the throttling of a Raspberry Pi, on faked file trees and a faked vcgencmd."""

from __future__ import annotations

from pathlib import Path

import pytest

from sonoedge.benchmarks.measure.environment import how_made, machine, thermal, this_command, why_invalid
from sonoedge.benchmarks.records.runfile import Thermal


def pi(root: Path) -> Path:
    for name, text in {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/meminfo": "MemTotal:        4144796 kB\nMemAvailable:    3000000 kB\n",
        "proc/cpuinfo": "processor\t: 0\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
        "sys/class/thermal/thermal_zone0/temp": "61350\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_pi_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = machine(pi(tmp_path))
    assert (found.processor, found.governor) == ("Raspberry Pi 5 Model B Rev 1.0", "ondemand")
    assert found.memory_bytes == 4144796 * 1024
    assert thermal(tmp_path) == Thermal(61.4, 2400.0, 0x50005)


def test_a_pi_by_vcgencmd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "vcgencmd"
    script.write_text(
        '#!/bin/sh\ncase "$1" in\n measure_temp) echo "temp=48.3\'C";;\n'
        ' measure_clock) echo "frequency(0)=1800404352";;\n get_throttled) echo "throttled=0x50000";;\nesac\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert thermal(tmp_path / "nothing") == Thermal(48.3, 1800.4, 0x50000)


def test_a_machine_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert thermal(tmp_path) == Thermal(None, None, None)
    found = machine(tmp_path)
    assert (found.governor, found.memory_bytes) == (None, None)
    assert found.processor and found.cores >= 1


@pytest.mark.parametrize(
    ("before", "during", "after", "reason"),
    [
        (None, [None], None, None),
        (0x0, [0x0], 0x0, None),
        (0x50000, [0x50000], 0x50000, None),  # long ago: nothing about this run
        (0x0, [0x0], 0x40000, "throttled"),  # between two looks
        (0x0, [0x4], 0x0, "throttled"),
        (0x0, [0x0], 0x50000, "under-voltage, throttled"),
        (0x2, [0x0], 0x0, "clock capped"),
        (0x0, [0x80008], 0x80000, "soft temperature limit"),
    ],
)
def test_throttled_runs_are_invalid(
    before: int | None, during: list[int | None], after: int | None, reason: str | None
) -> None:
    moments = [Thermal(None, None, flags) for flags in (before, *during, after)]
    found = why_invalid(moments[0], moments[1:-1], moments[-1])
    assert found is None if reason is None else found is not None and found.endswith(reason)


def test_what_is_measured_says_how() -> None:
    command = this_command(
        "python x.py", ["--data", "/some/where/BUSI", "--other", "uc=/a/b/UC", "--out", "work/a.json"]
    )
    assert command == "python x.py --data BUSI --other uc=UC --out work/a.json"
    made = how_made([command], weights="random", threads=3)
    assert made["commands"] == [command] and made["weights"] == "random" and made["machine"]["threads"] == 3
    assert len(made["date"]) == 10 and isinstance(made["machine"]["int8_dot_products"], list)
