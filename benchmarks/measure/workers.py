"""The parent's side of `benchmarks.measure.worker`, and ``benchmark_app`` behind the same interface."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from sonoedge.benchmarks.measure.opening import Spec
from sonoedge.edge_runtime.children import child_environment, python_call
from sonoedge.edge_runtime.errors import ModelError

TIMEOUT_S = 900.0
"""A candidate that takes longer for one answer is stopped: no model for an edge device needs so long."""


class Asked(Protocol):
    """A candidate that answers commands; ``opened`` is the answer to its opening."""

    opened: dict[str, Any]

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send one command and return the answer.

        Raises:
            ModelError: the candidate cannot answer.
        """
        ...

    def close(self) -> None:
        """End the candidate."""
        ...


class Worker:
    """A candidate in a process of its own.

    Raises:
        ModelError: it cannot be opened, or it crashed; the message is one sentence.
    """

    def __init__(self, spec: Spec) -> None:
        # Its own process group: only the parent answers Ctrl-C. No session of its own: Linux would share the
        # processor between the two sessions, and benchmark_app would be timed under other conditions. If the parent
        # dies, the pipe closes and the worker ends.
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            python_call("sonoedge.benchmarks.measure.worker:main"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=child_environment(TF_CPP_MIN_LOG_LEVEL="2"),
            process_group=0 if os.name == "posix" else None,
        )
        try:
            self.opened: dict[str, Any] = self.ask(do="open", spec=asdict(spec))
        except BaseException:
            self.close()
            raise

    def ask(self, **command: Any) -> dict[str, Any]:
        """See `Asked`; an answer must come within `TIMEOUT_S`."""
        assert self._process.stdin and self._process.stdout
        expired = threading.Event()

        def give_up() -> None:
            expired.set()
            self._process.kill()

        clock = threading.Timer(TIMEOUT_S, give_up)
        clock.daemon = True
        clock.start()
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            clock.cancel()
        if not line and expired.is_set():
            raise ModelError(f"There was no answer within {TIMEOUT_S:g} s.")
        if not line:
            raise ModelError(f"The process crashed (exit code {self._process.wait(10)}){self._last_words()}.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ModelError(answer["error"])
        return answer

    def close(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""


class BenchmarkApp:
    """OpenVINO's ``benchmark_app`` on a file, with one stream; each answer holds the median of its queries."""

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        self._path, self._threads = path, threads
        self.opened: dict[str, Any] = {
            "init_ms": None, "first_ms": None, "base_bytes": None, "peak_bytes": None,
            "executed": {"interpreter": f"benchmark_app of openvino {openvino.__version__}", "threads": threads},
        }  # fmt: skip

    def ask(self, **command: Any) -> dict[str, Any]:
        """See `Asked`; only the number of queries counts."""
        with tempfile.TemporaryDirectory() as folder:
            arguments = [
                "-m", str(self._path), "-d", "CPU", "-api", "sync", "-hint", "none",
                "-nthreads", str(self._threads),
                "-infer_precision", "f32", "-niter", str(command["queries"]), "-json_stats",
                "-report_type", "no_counters", "-report_folder", folder,
            ]  # fmt: skip
            try:
                done = subprocess.run(
                    python_call(f"{__name__}:benchmark_app", *arguments),
                    capture_output=True,
                    text=True,
                    env=child_environment(),
                    timeout=TIMEOUT_S,
                )
            except subprocess.TimeoutExpired as error:
                raise ModelError(f"benchmark_app gave no answer within {TIMEOUT_S:g} s.") from error
            reports = list(Path(folder).glob("*report.json"))
            if done.returncode or not reports:
                lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
                raise ModelError(f"benchmark_app failed: {lines[-1][:200]}")
            figures = json.loads(reports[0].read_text())["execution_results"]
        if "latency (ms)" not in figures:
            raise ModelError(f"benchmark_app gave no median: {figures.get('error', figures)}".splitlines()[0])
        return {"samples_ms": [float(figures["latency (ms)"])]}

    def close(self) -> None:
        """Do nothing: no process stays open."""


def benchmark_app(*arguments: str) -> int | None:
    """Run ``benchmark_app`` in the child process; it reads ``sys.argv``.

    Importing SonoEdge before keeps OpenVINO's telemetry off.
    """
    from openvino.tools.benchmark.main import main

    return main()
