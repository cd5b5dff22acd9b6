"""Replay in a child process with limits: a hostile or faulty model file ends the child, not the caller.

An interpreter is native code. A file that passes `edge_runtime.backends.flatbuffer` can still crash it, and a wheel
for another processor ends in SIGILL. The child writes no core dump and no files, and has limited memory and
processor time. Every way in which the child fails becomes one sentence.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from sonoedge.edge_runtime.backends import default_threads
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.children import child_environment, python_call
from sonoedge.edge_runtime.device.replay import Replay
from sonoedge.edge_runtime.errors import SonoEdgeError
from sonoedge.edge_runtime.process_limits import MEMORY_BYTES, limit_process

DEFAULT_SECONDS = 600.0

_CRASHES = {
    "SIGILL": "uses an instruction that this processor lacks: install the wheel for this processor",
    "SIGKILL": "was killed, most likely for lack of memory",
    "SIGXCPU": "used up its processor time",
}


def replay_isolated(
    bundle: Bundle,
    artifact: str,
    *,
    threads: int | None = None,
    seconds: float = DEFAULT_SECONDS,
    memory_bytes: int = MEMORY_BYTES,
) -> Replay:
    """`replay` in a child process; a crash, a time-out or an error becomes ``Replay.failure``.

    Args:
        bundle: checked already; the child loads its model files and golden.npz again.
        artifact: name of the artifact.
        threads: for the interpreter; None takes `default_threads`.
        seconds: limit of wall-clock time.
        memory_bytes: limit of address space (not enforced on Windows).
    """
    threads = threads or default_threads()
    request = {"bundle": str(bundle.path.resolve()), "artifact": artifact, "threads": threads}
    limits = {"memory_bytes": memory_bytes, "cpu_seconds": int(seconds * threads) + 1}
    try:
        child = subprocess.run(
            python_call(f"{__name__}:child", json.dumps(request | limits)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            env=child_environment(),
        )
    except subprocess.TimeoutExpired:
        return _failed(artifact, f"the interpreter did not finish within {seconds:g} s")
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        return _failed(artifact, f"the interpreter {_CRASHES.get(name, 'crashed on this file')} ({name})")
    try:
        body = json.loads(child.stdout)
    except ValueError:
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        return _failed(artifact, f"the interpreter ended with exit code {child.returncode}: {last}")
    if "error" in body:
        return _failed(artifact, str(body["error"]))
    body["tolerance"] = tuple(body["tolerance"])
    return Replay(**{item.name: body[item.name] for item in fields(Replay)})


def _failed(artifact: str, reason: str) -> Replay:
    return Replay(artifact, np.nan, np.nan, np.nan, (np.nan, np.nan, np.nan), failure=reason)


def child(argument: str) -> None:
    """Run in the child process: read a request as JSON, write a `Replay` as JSON to standard output."""
    request = json.loads(argument)
    # Interpreters print to file descriptor 1: it is redirected, and our answer goes to a copy of it.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    limit_process(memory_bytes=request["memory_bytes"], cpu_seconds=request["cpu_seconds"])
    from sonoedge.edge_runtime.bundle.manifest import read_manifest
    from sonoedge.edge_runtime.bundle.trust import without_policy
    from sonoedge.edge_runtime.device.replay import load_golden, replay

    try:
        # The parent has checked digests and policy: only the files are read again.
        bundle = without_policy(read_manifest(Path(request["bundle"])))
        result = asdict(replay(bundle, request["artifact"], load_golden(bundle), threads=request["threads"]))
    except SonoEdgeError as error:
        result = {"error": str(error)}
    except MemoryError:
        result = {"error": f"more than the {request['memory_bytes'] / 2**30:.1f} GiB of memory allowed"}
    answer.write(json.dumps(result))
    answer.flush()
