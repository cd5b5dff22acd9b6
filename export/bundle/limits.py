"""Limits on what an artifact may cost: ``export --max-ms``, ``--max-mb`` and ``--max-ram``.

Each artifact is measured on this machine: the median time of a frame and the peak memory in a process of its own
that imports nothing but edge_runtime (as on a device), and the size of its files. What exceeds a limit is left out
of the bundle. The fastest of the rest comes first, so that devices take it by default; the others keep their order.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.bundle.contract import Artifact
from sonoedge.edge_runtime.children import child_environment, python_call
from sonoedge.edge_runtime.device.peak_memory import peak_bytes
from sonoedge.edge_runtime.errors import LimitError, ModelError, SonoEdgeError, UsageError

MIN_FRAMES, MIN_SECONDS = 15, 1.0
_TIMEOUT_S = 600.0
_OPTIONS = {"ms": "--max-ms", "mb": "--max-mb", "ram": "--max-ram"}
_UNITS = {"ms": "ms", "mb": "MB", "ram": "MB of memory"}


@dataclass(frozen=True)
class Limits:
    """The largest median milliseconds of a frame, megabytes of files, megabytes of peak memory; None for no limit.

    A megabyte is 1,000,000 bytes.
    """

    ms: float | None = None
    mb: float | None = None
    ram: float | None = None


@dataclass(frozen=True)
class Cost:
    """What an artifact costs on this machine; ``peak_bytes`` is None if the system does not tell."""

    p50_ms: float
    size_bytes: int
    peak_bytes: int | None


@dataclass(frozen=True)
class Choice:
    """The artifacts within the limits, the chosen one first, and the cost of every artifact by name."""

    artifacts: tuple[Artifact, ...]
    costs: dict[str, Cost]
    limits: Limits

    def lines(self) -> Iterator[str]:
        """A line for each artifact: its cost, and whether it is left out."""
        for name, cost in self.costs.items():
            told = ", ".join(_told(name_of, value) for name_of, value in figures(cost).items())
            missed = misses(cost, self.limits)
            verdict = f"left out: {' and '.join(missed)}" if missed else "within the limits"
            yield f"{name:<16}{told}; {verdict}" + (", comes first" if name == self.artifacts[0].name else "")

    def to_json(self) -> dict[str, Any]:
        """For the bundle's provenance."""
        return {
            "limits": {key: value for key, value in asdict(self.limits).items() if value is not None},
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "kept": [artifact.name for artifact in self.artifacts],
        }


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options ``--max-ms``, ``--max-mb`` and ``--max-ram``."""
    group = parser.add_argument_group(
        "limits", "What an artifact may cost, measured on this machine; the fastest within them comes first."
    )
    group.add_argument("--max-ms", type=float, metavar="X", help="median milliseconds of a frame")
    group.add_argument("--max-mb", type=float, metavar="Y", help="megabytes of its files")
    group.add_argument("--max-ram", type=float, metavar="Z", help="megabytes of peak memory, Python included")


def checked_limits(max_ms: float | None, max_mb: float | None, max_ram: float | None) -> Limits | None:
    """The limits; None if there is none.

    Raises:
        UsageError: a limit is not a positive number, or the memory is limited and this system does not tell it.
    """
    limits = Limits(max_ms, max_mb, max_ram)
    for key, value in asdict(limits).items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{_OPTIONS[key]} must be a positive number. Received: {value:g}.")
    if max_ram is not None and peak_bytes() is None:
        raise UsageError("This system does not tell how much memory a process takes: leave --max-ram out.")
    return None if limits == Limits() else limits


def keep_within(
    limits: Limits,
    folder: Path,
    artifacts: Sequence[Artifact],
    input_size: tuple[int, int],
    *,
    measure: Callable[..., Cost] | None = None,
) -> Choice:
    """Measure the artifacts in a folder, and remove the files of those that exceed a limit.

    Args:
        limits: at least one.
        folder: of the bundle that is being made; bundle.json need not exist yet.
        artifacts: in order of preference.
        input_size: (height, width).
        measure: replaces `cost_of`; for tests.

    Raises:
        LimitError: all exceed a limit; the message names the nearest one.
        ModelError: an artifact cannot be measured.
    """
    measure = measure or cost_of
    costs = {artifact.name: measure(folder, artifact, input_size) for artifact in artifacts}
    kept = [artifact for artifact in artifacts if not misses(costs[artifact.name], limits)]
    if not kept:
        name, cost = min(costs.items(), key=lambda item: _excess(item[1], limits))
        raise LimitError(
            f"No artifact is within the limits on this machine. The nearest is {name}: "
            f"{' and '.join(misses(cost, limits))}."
        )
    for artifact in artifacts:
        if artifact not in kept:
            shutil.rmtree(folder / artifact.name)
    first = min(kept, key=lambda artifact: costs[artifact.name].p50_ms)
    return Choice((first, *(artifact for artifact in kept if artifact != first)), costs, limits)


def figures(cost: Cost) -> dict[str, float]:
    """The cost in the units of `Limits`, by their names; without the memory if it is not known."""
    found = {"ms": cost.p50_ms, "mb": cost.size_bytes / 1e6}
    return found if cost.peak_bytes is None else {**found, "ram": cost.peak_bytes / 1e6}


def misses(cost: Cost, limits: Limits) -> list[str]:
    """Each limit that is exceeded, and by how much, in words."""
    found = []
    for key, value in figures(cost).items():
        limit = getattr(limits, key)
        if limit is not None and value > limit:
            more = _told(key, value - limit)
            found.append(f"{_told(key, value)}, {more} more than {_OPTIONS[key]} {limit:g}")
    return found


def _excess(cost: Cost, limits: Limits) -> float:
    """The largest ratio of a figure to its limit."""
    known = figures(cost).items()
    return max(value / limit for key, value in known if (limit := getattr(limits, key)) is not None)


def _told(key: str, value: float) -> str:
    # Three digits, so that a miss by a hundredth is not told as 0.0.
    return f"{value:.3g} {_UNITS[key]}" if value < 100 else f"{value:.0f} {_UNITS[key]}"


def cost_of(folder: Path, artifact: Artifact, input_size: tuple[int, int]) -> Cost:
    """Time and memory of an artifact in a child process; each frame is the backbone and the head, after the resize.

    Raises:
        ModelError: the child fails; the message is one sentence.
    """
    request = {
        "backbone": str((folder / artifact.backbone).resolve()),
        "head": str((folder / artifact.head).resolve()),
        "runtime": artifact.runtime,
        "input_size": input_size,
    }
    try:
        done = subprocess.run(
            python_call(f"{__name__}:child", json.dumps(request)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env=child_environment(),
        )
        body = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{artifact.name} gave no frames within {_TIMEOUT_S:g} s.") from error
    except ValueError as error:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise ModelError(f"{artifact.name} cannot be measured (exit code {done.returncode}): {last}") from error
    if "error" in body:
        raise ModelError(f"{artifact.name} cannot be measured: {body['error']}")
    return Cost(body["p50_ms"], artifact.size_bytes, body["peak_bytes"])


def child(argument: str) -> None:
    """Run in the child process: read a request as JSON, write time and memory as JSON to standard output."""
    request = json.loads(argument)
    # Interpreters print to file descriptor 1: it is redirected, and our answer goes to a copy of it.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import numpy as np

    from sonoedge.edge_runtime.backends import open_model
    from sonoedge.edge_runtime.device.latency import WARM_UP, percentiles, time_calls

    body: dict[str, Any]
    try:
        backbone = open_model(Path(request["backbone"]), request["runtime"])
        head = open_model(Path(request["head"]), request["runtime"], threads=1)
        image = np.random.default_rng(0).integers(0, 256, (1, *request["input_size"], 3)).astype(np.float32)

        def frame() -> None:
            head.run(backbone.run({"image": image}))

        time_calls(frame, min_calls=WARM_UP)
        seconds = time_calls(frame, min_calls=MIN_FRAMES, min_seconds=MIN_SECONDS)
        body = {"p50_ms": percentiles(seconds).p50_ms, "peak_bytes": peak_bytes()}
    except SonoEdgeError as error:
        body = {"error": str(error)}
    answer.write(json.dumps(body))
    answer.flush()
