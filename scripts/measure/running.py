"""Run a command of SonoEdge as a user types it; what it prints goes to a log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter


def called(command: str, arguments: Sequence[object], log: Path) -> None:
    """Run ``sonoedge COMMAND``; its output, then its time, go to the log."""
    print(f"{command} {log.parent.name}", file=sys.stderr, flush=True)
    started = perf_counter()
    with log.open("w", encoding="utf-8") as file:
        given = [sys.executable, "-m", "sonoedge.edge_runtime", command, *map(str, arguments)]
        subprocess.run(given, check=True, stdout=file, stderr=subprocess.STDOUT)
        file.write(f"\n{perf_counter() - started:.0f} s\n")
