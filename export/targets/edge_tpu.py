"""Coral's compiler for the Edge TPU, if it is on PATH. No package index has it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.children import last_words
from sonoedge.edge_runtime.errors import ModelError, few

HOW_TO_INSTALL = (
    "echo 'deb https://packages.cloud.google.com/apt coral-edgetpu-stable main' | sudo tee "
    "/etc/apt/sources.list.d/coral-edgetpu.list; curl https://packages.cloud.google.com/apt/doc/apt-key.gpg | "
    "sudo apt-key add -; sudo apt-get update; sudo apt-get install edgetpu-compiler"
)
_MAPPED = "Mapped to Edge TPU"
_ROW = re.compile(r"^([A-Z][A-Z0-9_]+)\s+(\d+)\s+(\S.*)$", re.MULTILINE)
_SECONDS = 600


def compile_for_edge_tpu(path: Path, compiler: str, scratch: Path) -> dict[str, Any]:
    """Compile a file if the compiler is there.

    Args:
        path: int8 flatbuffer.
        compiler: its name on PATH.
        scratch: folder for what it writes.

    Returns:
        For JSON: ``compiler``, None if it is not there, and what it counts.

    Raises:
        ModelError: it cannot compile the file, or leaves operators to the CPU.
    """
    found = shutil.which(compiler)
    if found is None:
        return {"compiler": None, "command": f"{compiler} -s {path.name}"}
    try:
        done = subprocess.run(
            [found, "-s", "-o", str(scratch), str(path)],
            capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"{compiler} cannot compile {path.name}: {error}") from error
    rows = [(name, int(count), status.strip()) for name, count, status in _ROW.findall(done.stdout)]
    if done.returncode or not rows:
        raise ModelError(f"{compiler} cannot compile {path.name} (exit code {done.returncode}): {last_words(done)}")
    if left := [f"{count} {name} ({status})" for name, count, status in rows if status != _MAPPED]:
        raise ModelError(f"{compiler} leaves operators to the CPU: {few(left)}")
    total = sum(count for _, count, _ in rows)
    return {
        "compiler": compiler,
        "command": f"{compiler} -s {path.name}",
        "operators": total,
        "operators_on_npu": total,
    }


def in_words(report: dict[str, Any]) -> str:
    """A report of `compile_for_edge_tpu` as a sentence."""
    if report["compiler"] is None:
        return (
            "the operators are on the Edge TPU's list, but its compiler is not on PATH, so nothing was compiled; "
            f"install it on Debian, x86-64: {HOW_TO_INSTALL}; then: {report['command']}"
        )
    placed = f"{report['operators_on_npu']} of {report['operators']}"
    return f"{report['compiler']} places {placed} operators on the Edge TPU"
