"""The machine of a benchmark, and whether its processor kept its clock. Standard library and edge_runtime."""

from __future__ import annotations

import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sonoedge.benchmarks.records.runfile import Machine, Thermal
from sonoedge.edge_runtime.backends import default_threads, usable_cores
from sonoedge.edge_runtime.device import system
from sonoedge.edge_runtime.typed_json import to_plain

_PACKAGES = (
    "sonoedge", "numpy", "pillow", "ai-edge-litert", "tflite-runtime", "openvino", "onnxruntime", "keras",
    "tensorflow",
)  # fmt: skip
_NOW = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
_EVER = 16


def machine(root: Path = Path("/")) -> Machine:
    """Processor, cores, memory, governor, operating system and versions; tests give another ``root``."""
    return Machine(
        processor=system.processor_name(root) or platform.processor() or "unknown",
        architecture=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        cores=usable_cores(),
        memory_bytes=system.memory_bytes("MemTotal", root),
        governor=system.governors(root) or None,
        versions={name: found for name in _PACKAGES if (found := _version(name))},
    )


def machine_record(threads: int | None) -> dict[str, Any]:
    """The machine as plain JSON, with the number of threads used."""
    plain: dict[str, Any] = to_plain(machine())
    return {**plain, "threads": threads or default_threads()}


def how_made(commands: Sequence[str], *, weights: str, threads: int | None = None) -> dict[str, Any]:
    """The keys with which every file in docs/results says how it was made; documents print them below its figures.

    ``commands`` have all their options, see `this_command`; ``weights`` says in words whose weights were measured.
    """
    return {
        "commands": list(commands),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {**machine_record(threads), "int8_dot_products": system.int8_dot_products()},
        "weights": weights,
    }


def this_command(program: str, argv: Sequence[str] | None = None) -> str:
    """The running command with all its options; of a path outside the working directory only the name is told."""
    given = sys.argv[1:] if argv is None else argv
    return shlex.join([*program.split(), *(_without_folder(word) for word in given)])


def thermal(root: Path = Path("/")) -> Thermal:
    """Temperature, clock and throttling flags now: from ``vcgencmd`` on a Raspberry Pi, else from sysfs."""
    temperature = _number(_vcgencmd("measure_temp"), r"temp=([\d.]+)")
    if temperature is None and (found := system.hottest_celsius(root)) is not None:
        temperature = round(found, 1)
    clock = _number(_vcgencmd("measure_clock", "arm"), r"=(\d+)", 1e-6)
    if clock is None:
        clock = _number(
            system.read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"), r"^(\d+)$", 1e-3
        )
    flags = re.search(r"throttled=(0x[0-9a-fA-F]+)", _vcgencmd("get_throttled") or "")
    return Thermal(temperature, clock, int(flags[1], 16) if flags else system.throttled_bits(root))


def why_invalid(before: Thermal, during: Sequence[Thermal], after: Thermal) -> str | None:
    """Why the timings of a run do not count, because its processor was held back; None if they count.

    The flags of the past (bits 16–19) count only if they were not set before the run began.
    """
    started = before.throttled or 0
    flags = 0
    for moment in (*during, after):
        if moment.throttled is not None:
            flags |= moment.throttled & 0xF
            flags |= (moment.throttled & ~started) >> _EVER & 0xF
    flags |= started & 0xF
    reasons = [name for bit, name in _NOW.items() if flags >> bit & 1]
    return f"the processor was held back during the run: {', '.join(reasons)}" if reasons else None


def _without_folder(word: str) -> str:
    """``DATA`` of ``/some/where/DATA``, also in ``NAME=/some/where/DATA``."""
    name, equals, value = word.rpartition("=")
    return f"{name}{equals}{Path(value).name}" if value.startswith(("/", "~", "..")) else word


def _vcgencmd(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["vcgencmd", *arguments], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _number(text: str | None, pattern: str, factor: float = 1.0) -> float | None:
    found = re.search(pattern, text or "")
    return round(float(found[1]) * factor, 1) if found else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
