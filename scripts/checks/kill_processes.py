"""Forks that run a command and are killed, and the content of their output afterwards."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

HANG_SECONDS = 300
"""Seconds after which a process counts as hanging."""


def spawn(words: list[str], folder: Path, *, kill_before: int = -1, count_in: Path | None = None) -> int:
    """Run ``sonoedge WORDS`` in a fork; returns its process id.

    Args:
        words: of the command line.
        folder: for the output and the log.
        kill_before: number of the operation on a file under ``folder`` before which the process kills itself.
        count_in: file into which it writes the number of these operations, and its processor time in seconds.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        handle = os.open(folder / f"{words[0]}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        from sonoedge.edge_runtime.cli import main as sonoedge

        operations = watch_files(folder, kill_before)
        code = sonoedge(words)
        if count_in:
            count_in.write_text(f"{operations[0]} {time.process_time()}")
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def watch_files(folder: Path, kill_before: int) -> list[int]:
    """Count this process's operations on files under ``folder``, and kill it before number ``kill_before``."""
    count, prefix = [0], str(folder)

    def hook(event: str, arguments: tuple) -> None:
        if event != "open" and not event.startswith("os."):
            return
        # Paths only: with descriptors, fork and thread events would be counted as well.
        if any(isinstance(x, str | bytes | os.PathLike) and os.fsdecode(x).startswith(prefix) for x in arguments):
            if count[0] == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
            count[0] += 1

    sys.addaudithook(hook)
    return count


def kill_after(pid: int, cpu_seconds: float) -> bool:
    """Kill a process once it has used that much processor time; returns whether it was still running."""
    tick = os.sysconf("SC_CLK_TCK")
    end = time.monotonic() + HANG_SECONDS
    while time.monotonic() < end:
        # After the name, which is in brackets, the first word is the state, the 12th and 13th are the times.
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if words[0] == "Z" or (int(words[11]) + int(words[12])) / tick >= cpu_seconds:
            break
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return wait(pid) == -signal.SIGKILL


def wait(pid: int) -> int:
    """Exit code, or minus the signal; a process that hangs is killed and counts as -14 (SIGALRM)."""
    end = time.monotonic() + HANG_SECONDS
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGALRM


def read(name: str, folder: Path) -> str:
    """`content` as text, read by a fork; the text of the error if the output is not whole."""
    answer = folder / "content.txt"
    answer.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, 2)
        try:
            answer.write_text(repr(content(name, folder)))
        except BaseException as error:  # noqa: BLE001 – any way of not being readable is a loss
            answer.write_text(f"{type(error).__name__}: {error}")
        os._exit(0)
    code = wait(pid)
    return answer.read_text() if answer.exists() else f"the reader ended with {code}"


def content(name: str, folder: Path) -> Any:
    """The content of a command's output, read as its users read it; raises an exception if it is not whole.

    Times and dates are left out, and so are the bytes of a model file (Keras writes the date into them).
    """
    import numpy as np

    if name == "train":
        from sonoedge.train.evaluation.run_folder import open_run
        from sonoedge.train.models.fusion import load_model

        run = open_run(folder / "run")
        weights = load_model(folder / "run").get_weights()
        return run.split.labels, run.threshold, [float(np.abs(w).sum()) for w in weights]
    if name.startswith("export"):
        from sonoedge.edge_runtime.bundle.manifest import load_bundle
        from sonoedge.edge_runtime.device.replay import load_golden
        from sonoedge.edge_runtime.files import sha256_file

        bundle = load_bundle(folder / ("int8" if name.endswith("int8") else "bundle"))
        golden = load_golden(bundle)
        files = [sha256_file(bundle.path / a.backbone) for a in bundle.artifacts if a.precision != "fp32"]
        return [a.name for a in bundle.artifacts], golden["reference_logit"].tolist(), files
    report = json.loads((folder / "report/report.json").read_text())
    pages = [(folder / "report" / page).read_text() for page in ("report.html", "report.md")]
    assert "</html>" in pages[0] and pages[1].strip()
    return sorted(report)
