"""Are the tests worth their time? Plant a fault behind each safety promise, and see whether a test turns red.

    python scripts/planted_faults.py                  all faults; a table, exit code 1 if no test sees one
    python scripts/planted_faults.py --only gate      faults whose promise or file holds one of the words
    python scripts/planted_faults.py --light          faults whose tests run without TensorFlow

Each fault of `scripts/faults` is one replacement of text in a copy of the checkout. The tests named beside it run
in that copy. Exit code 1: a fault that no test sees (GREEN), a replacement whose text is no longer there (GONE),
tests that cannot be run (BROKEN), or tests that fail without any fault. If the code under a fault changes, write
the fault again; do not delete it.

Each run is a fork of a process that has imported the big libraries once: most faults then take a second or two.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.faults.fault import Fault  # noqa: E402 - found by the line above
from scripts.faults.table import FAULTS  # noqa: E402

# Without modules that pytest must rewrite or load itself, such as Hypothesis.
LIGHT = ("numpy", "PIL.Image", "scipy.stats", "sklearn.metrics", "httpx")
HEAVY = ("tensorflow", "keras", "ai_edge_litert.interpreter", "openvino", "litert_quantizer")
LIMIT_S = 900
"""Seconds for the tests of one fault; after that they count as hanging."""
SEEN, UNSEEN = "red", "GREEN"
PASSED, FAILED = 0, 1  # exit codes of pytest; others mean that nothing was tested


@dataclass(frozen=True)
class Outcome:
    """Answer of the tests: `SEEN`, `UNSEEN`, or ``GONE`` or ``BROKEN``; with the seconds and pytest's output."""

    word: str
    seconds: float
    output: str = ""


def main() -> int:
    """Plant the faults and print the table; exit code 1 if a fault is not seen."""
    parser = argparse.ArgumentParser(description="Plant faults and see whether tests turn red.")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help=(
        "faults whose promise or file holds one of the words"
    ))  # fmt: skip
    parser.add_argument("--light", action="store_true", help="leave out what needs TensorFlow")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="print the table without running anything")
    args = parser.parse_args()
    faults = [fault for fault in FAULTS if any(word in f"{fault.promise} {fault.path}" for word in args.only)]
    faults = [fault for fault in faults if not (args.light and fault.heavy)]
    if args.list:
        print("\n".join(f"{fault.promise}: {fault.path}: {' '.join(fault.tests)}" for fault in faults))
        return 0
    started = monotonic()
    outcomes = plant(faults, args.jobs)
    width = max(len(fault.promise) for fault in faults)
    print(f"\n{'promise':<{width}}  {'planted in':<28}{'tests':<8}{'s':>5}")
    for fault, outcome in zip(faults, outcomes, strict=True):
        print(f"{fault.promise:<{width}}  {fault.path:<28}{outcome.word:<8}{outcome.seconds:>5.0f}")
    bad = [(f, o) for f, o in zip(faults, outcomes, strict=True) if o.word != SEEN]
    for fault, outcome in bad:
        print(f"\n{outcome.word}: {fault.promise} ({' '.join(fault.tests)})\n{outcome.output[-3000:]}")
    print(f"\n{len(faults) - len(bad)} of {len(faults)} planted faults are seen; {monotonic() - started:.0f} s")
    return 1 if bad else 0


def plant(faults: list[Fault], jobs: int, limit_s: float = LIMIT_S) -> list[Outcome]:
    """Plant each fault in a copy of the checkout and run its tests there, ``jobs`` at once, ``limit_s`` at most."""
    _import(LIGHT)
    if any(fault.heavy for fault in faults):
        _import(HEAVY)
    with _copies(jobs) as copies:
        return _run(faults, copies, limit_s)


def _import(names: Iterable[str]) -> None:
    """Import modules that every fork then has; never a module of this project."""
    for name in names:
        with suppress(ImportError):
            importlib.import_module(name)


@contextmanager
def _copies(count: int) -> Iterator[list[Path]]:
    """Copies of the checkout as it is now, new files included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, stdout=-1, check=True
    )
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    names = [file.relative_to(ROOT) for file in files if file.is_symlink() or file.is_file()]
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / str(number) for number in range(count)]
        for copy in copies:
            for name in names:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, copy / name, follow_symlinks=False)
        yield copies


def _run(faults: list[Fault], copies: list[Path], limit_s: float) -> list[Outcome]:
    """First all tests without a fault, then each fault; as many at once as there are copies."""
    outcomes: dict[int, Outcome] = {}
    tests = sorted({test for fault in faults for test in fault.tests})
    sound = _finish([_start(tests, copies[0], limit_s)])[0]
    print(
        f"without a fault: {len(tests)} tests {'pass' if sound.word == UNSEEN else 'FAIL'}; {sound.seconds:.0f} s"
    )
    if sound.word != UNSEEN:
        return [Outcome("BROKEN", 0, sound.output)] * len(faults)
    waiting = list(enumerate(faults))
    running: dict[int, tuple[int, _Child, str]] = {}
    while waiting or running:
        for place, copy in enumerate(copies):
            if place in running:
                number, child, text = running[place]
                if (outcome := child.poll()) is None:
                    continue
                (copy / faults[number].path).write_text(text, encoding="utf-8")
                outcomes[number] = outcome
                del running[place]
                print(f"{outcome.word:<7} {faults[number].promise}", flush=True)
            if waiting:
                number, fault = waiting.pop(0)
                text = (copy / fault.path).read_text(encoding="utf-8")
                if text.count(fault.old) != 1:
                    outcomes[number] = Outcome(
                        "GONE", 0, f"{text.count(fault.old)} times in {fault.path}: {fault.old}"
                    )
                    continue
                (copy / fault.path).write_text(text.replace(fault.old, fault.new), encoding="utf-8")
                running[place] = number, _start(fault.tests, copy, limit_s), text
        sleep(0.02)
    return [outcomes[number] for number in range(len(faults))]


class _Child:
    """A fork that runs pytest."""

    def __init__(self, pid: int, log: Path, limit_s: float) -> None:
        self._pid, self._log, self._limit, self._started = pid, log, limit_s, monotonic()

    def poll(self) -> Outcome | None:
        """The outcome; None while the tests run."""
        seconds = monotonic() - self._started
        if seconds > self._limit:
            with suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            return Outcome("BROKEN", seconds, f"no answer within {self._limit:g} s\n{self._log.read_text()}")
        done, status = os.waitpid(self._pid, os.WNOHANG)
        if not done:
            return None
        code = os.waitstatus_to_exitcode(status)
        word = {PASSED: UNSEEN, FAILED: SEEN}.get(code, "BROKEN")
        return Outcome(word, seconds, self._log.read_text(errors="replace"))


def _finish(children: list[_Child]) -> list[Outcome]:
    outcomes = []
    for child in children:
        while (outcome := child.poll()) is None:
            sleep(0.05)
        outcomes.append(outcome)
    return outcomes


def _start(tests: Iterable[str], copy: Path, limit_s: float) -> _Child:
    log = copy.with_suffix(".log")
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return _Child(pid, log, limit_s)
    os.setsid()
    code = 70
    try:
        with log.open("w") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        os.chdir(copy)
        # Otherwise Python would run the old bytecode of a file that was changed twice within a second.
        sys.dont_write_bytecode = True
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy)}
        sys.path[:] = [
            str(copy),
            *(place for place in sys.path if place not in {"", str(ROOT), str(ROOT / "scripts")}),
        ]
        # The tests import the copy's scripts, not ours.
        for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
            del sys.modules[name]
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow", "--basetemp", f"{copy}.tmp"]
        code = int(pytest.main([*options, *tests]))
    except BaseException:  # noqa: BLE001 - the log is all that the parent sees
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
