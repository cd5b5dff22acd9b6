"""One candidate in a process of its own, which answers JSON lines (`benchmarks.measure.workers` starts it).

Each candidate has its own process, so that its memory is that of one model, thread pools of different interpreters
do not meet, and a crash ends one candidate only. The parent (`benchmarks.measure.candidates`) lets one worker run
at a time, in turns.

    {"do": "open", "spec": …}            -> init_ms, first_ms, base_bytes, peak_bytes, executed
    {"do": "time", "queries": n, "seconds": s}   -> samples_ms, peak_bytes; a cascade in turns
    {"do": "score", "path": …}           -> logit, stages_ms, cam (H, W) before the ReLU, escalated (a cascade)

An answer ``{"error": …}`` is an expected failure; a closed pipe is a crash. Imports edge_runtime and NumPy; Keras
only for the full model.
"""

from __future__ import annotations

import json
import os
import sys
from time import perf_counter
from typing import Any

from sonoedge.benchmarks.measure.opening import WARM_UP, Opened, Spec, open_candidate
from sonoedge.benchmarks.measure.turns import in_turns
from sonoedge.edge_runtime.device.latency import time_calls
from sonoedge.edge_runtime.device.peak_memory import peak_bytes
from sonoedge.edge_runtime.errors import SonoEdgeError, UsageError


def _prepare(runtime: str) -> None:
    """Import the interpreter before the measurement, so that the model's memory and start-up time exclude it."""
    if runtime == "tflite":
        from sonoedge.edge_runtime.backends.tflite import load_interpreter_class

        load_interpreter_class()
    elif runtime == "openvino":
        import openvino  # noqa: F401
    elif runtime == "onnx":
        import onnxruntime  # noqa: F401
    elif runtime == "keras":
        import keras  # noqa: F401


def serve(lines: Any, answers: Any) -> None:
    """Answer commands until the input ends; ``lines`` yields JSON lines, ``answers`` is a file to write to."""
    opened: Opened | None = None
    for line in lines:
        command = json.loads(line)
        try:
            if command["do"] == "open":
                opened, answer = _open(Spec(**command["spec"]))
            else:
                assert opened is not None
                answer = _answer(opened, command)
        except (SonoEdgeError, ImportError, OSError, ValueError, RuntimeError) as error:
            answer = {"error": str(error).splitlines()[0] if str(error) else type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _open(spec: Spec) -> tuple[Opened, dict[str, Any]]:
    _prepare(spec.runtime)
    base = peak_bytes()
    start = perf_counter()
    opened = open_candidate(spec)
    init = perf_counter()
    frame = opened.both or opened.frame
    frame()
    first = perf_counter()
    for _ in range(WARM_UP):
        frame()
    timing = {"init_ms": 1e3 * (init - start), "first_ms": 1e3 * (first - init), "base_bytes": base}
    # Read the peak now: scoring decodes images of any size, whose memory is not the model's.
    return opened, {**timing, "peak_bytes": peak_bytes(), "executed": opened.executed}


def _answer(opened: Opened, command: dict[str, Any]) -> dict[str, Any]:
    if command["do"] == "time":
        opened.frame()  # brings code and weights back into the caches
        frame, queries = opened.frame, command["queries"]
        if opened.both is not None:
            opened.both()
            frame, queries = in_turns(opened.frame, opened.both), max(2, queries)
        seconds = time_calls(frame, min_calls=queries, min_seconds=command["seconds"])
        return {"samples_ms": [round(1e3 * value, 4) for value in seconds], "peak_bytes": peak_bytes()}
    if command["do"] == "score":
        if opened.score is None:
            raise UsageError("This candidate only has a clock.")
        return opened.score(command["path"], bool(command.get("timed")))
    raise UsageError(f"Unknown command {command['do']!r}.")


def main() -> int:
    """Answer on the real standard output, and redirect what interpreters print there to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)
    return 0
