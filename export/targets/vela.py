"""Arm's compiler for Ethos-U, Vela, in a child process: does all of a file run on the NPU, at what cost?"""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.children import child_environment, last_words
from sonoedge.edge_runtime.errors import MissingExtraError, ModelError, few
from sonoedge.export.convert.graphs import parse_tflite
from sonoedge.export.targets.check import layer_of, operation_of
from sonoedge.export.targets.table import VelaConfiguration

EXTRA = "ethos-u"
_PACKAGE = "ethos-u-vela"
_SECONDS = 600
_ON_NPU = "CUSTOM ethos-u"


def require_vela() -> None:
    """Fail before the long work.

    Raises:
        MissingExtraError: Vela is not installed.
    """
    if importlib.util.find_spec("ethosu") is None:
        raise MissingExtraError("Arm's compiler Vela", EXTRA)


def command_of(configuration: VelaConfiguration, file: str, out: str) -> list[str]:
    """Vela's arguments, for people and for `compile_with_vela`."""
    return [
        file, "--accelerator-config", configuration.accelerator, "--config", "Arm/vela.ini",
        "--system-config", configuration.system, "--memory-mode", configuration.memory, "--output-dir", out,
    ]  # fmt: skip


def compile_with_vela(path: Path, configuration: VelaConfiguration, scratch: Path) -> dict[str, Any]:
    """Compile a file and read Vela's estimates; the compiled file is thrown away with ``scratch``.

    Args:
        path: int8 flatbuffer.
        configuration: of chip and memories.
        scratch: folder for what Vela writes.

    Returns:
        For JSON. ``cycles_npu`` are those in which the NPU calculates, of ``cycles_total``. ``memory_bytes`` is by
        kind of memory. ``latency_ms`` is Vela's estimate at ``clock_hz``, not a measurement.

    Raises:
        MissingExtraError: Vela is not installed.
        ModelError: Vela cannot compile the file, or leaves operators to the CPU; the message names them.
    """
    require_vela()
    out = scratch / configuration.accelerator
    out.mkdir(parents=True, exist_ok=True)
    arguments = command_of(configuration, str(path.resolve()), str(out))
    try:
        # -P: no module of the working directory is imported.
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ethosu.vela", *arguments],
            env=child_environment(), capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"Vela did not compile {path.name} within {_SECONDS} s.") from error
    compiled, (summary, *_) = out / f"{path.stem}_vela.tflite", (*out.glob(f"{path.stem}_summary_*.csv"), None)
    if done.returncode or not compiled.is_file() or summary is None:
        raise ModelError(
            f"Vela cannot compile {path.name} for {configuration.accelerator} (exit code {done.returncode}): "
            f"{last_words(done)}"
        )
    _refuse_cpu(compiled, configuration)
    row = next(csv.DictReader(summary.read_text(encoding="utf-8").splitlines()))
    return {
        "compiler": f"{_PACKAGE} {version(_PACKAGE)}",
        "command": " ".join(["vela", *command_of(configuration, path.name, "compiled")]),
        "accelerator": configuration.accelerator,
        "operators": (count := _operators(path)),
        "operators_on_npu": count,  # all of them: see `_refuse_cpu`
        "cycles_npu": int(row["cycles_npu"]),
        "cycles_total": int(row["cycles_total"]),
        "memory_bytes": {
            kind: round(1024 * float(row[f"{kind}_memory_used"]))
            for kind in ("sram", "dram", "on_chip_flash", "off_chip_flash")
            if float(row[f"{kind}_memory_used"])
        },
        "clock_hz": round(float(row["core_clock"])),
        "latency_ms": round(1e3 * float(row["inference_time"]), 3),
    }


def in_words(report: dict[str, Any]) -> str:
    """A report of `compile_with_vela` as a sentence."""
    memory = ", ".join(
        f"{size / 1024:.0f} KiB {kind.replace('_', ' ')}" for kind, size in report["memory_bytes"].items()
    )
    return (
        f"{report['compiler']} places {report['operators_on_npu']} of {report['operators']} operators on "
        f"{report['accelerator']}: estimated {report['latency_ms']:.1f} ms at {report['clock_hz'] / 1e6:.0f} MHz "
        f"({report['cycles_npu']:,} of {report['cycles_total']:,} cycles calculate), {memory}"
    )


def _operators(path: Path) -> int:
    return sum(len(graph.operators) for graph in parse_tflite(path.read_bytes()).subgraphs)


def _refuse_cpu(compiled: Path, configuration: VelaConfiguration) -> None:
    """In a compiled file everything on the NPU is one custom operator; whatever else it holds is the CPU's."""
    model = parse_tflite(compiled.read_bytes())
    left = [
        f"{operation_of(model, operator)} in the layer {layer_of(graph, operator)}"
        for graph in model.subgraphs
        for operator in graph.operators
        if operation_of(model, operator) != _ON_NPU
    ]
    if left:
        raise ModelError(
            f"Vela leaves {len(left)} operators to the CPU, which {configuration.accelerator} must do without: "
            f"{few(left)}"
        )
