"""A crash of native code is a sentence; and the line about XNNPACK is not printed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sonoedge.edge_runtime.crash import sentence
from tests.helpers.places import ROOT

CRASHING = """
import sys
sys.path.insert(0, {folder!r})
from sonoedge.edge_runtime import cli
cli.COMMANDS["predict"] = ("crashing", "crashes")
sys.argv = ["sonoedge", "predict"]
sys.exit(cli.main())
"""


def crash(folder: Path, action: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose module does ``action``, deep in a package called numpy."""
    package = folder / "numpy"
    package.mkdir()
    (package / "__init__.py").write_text(f"import os, signal, ctypes\n{action}\n")
    (folder / "crashing.py").write_text("import numpy\ndef add_arguments(p): pass\ndef run(args): return 0\n")
    return subprocess.run(
        [sys.executable, "-c", CRASHING.format(folder=str(folder))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("action", "code", "words"),
    [
        (
            "os.kill(os.getpid(), signal.SIGILL)",
            -signal.SIGILL,
            "numpy uses an instruction that this processor lacks",
        ),
        ("ctypes.string_at(0)", -signal.SIGSEGV, "numpy crashed (segmentation fault)"),
        ("os.abort()", -signal.SIGABRT, "numpy gave up (abort)"),
    ],
)
def test_a_crash_is_one_sentence(action: str, code: int, words: str, tmp_path: Path) -> None:
    done = crash(tmp_path, action)
    assert done.returncode == code
    assert done.stderr.splitlines() == [f"error: {done.stderr.splitlines()[0].removeprefix('error: ')}"]
    assert words in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_without_a_crash_nothing_is_said(tmp_path: Path) -> None:
    done = crash(tmp_path, "pass")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("", ""),
        ("half a rep", ""),
        ("Fatal Python error: Illegal instruction\n", "a native library uses an instruction"),
        (
            'Fatal Python error: Aborted\n  File "/x/ai_edge_litert/interpreter.py", line 3',
            "ai_edge_litert gave up",
        ),
        ("Fatal Python error: Something new\n", "crashed (Something new)"),
    ],
)
def test_sentences(report: str, words: str) -> None:
    assert words in sentence(report)
    assert bool(sentence(report)) == bool(words)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux")
def test_interpreters_start_without_a_notice_but_warnings_stay(float_bundle: Path) -> None:
    code = f"""
import os, sys, threading
from sonoedge.edge_runtime.backends import open_model
from sonoedge.edge_runtime.backends import tflite
check = tflite.check_tflite
class Loud:
    def __init__(self, **options): os.write(2, b"a warning\\nINFO: Created TensorFlow Lite XNNPACK delegate.\\n")
    def allocate_tensors(self): raise RuntimeError("refused")
from pathlib import Path
path = Path({str(next(float_bundle.glob("tflite-fp32/backbone.*")))!r})
threads = [threading.Thread(target=open_model, args=(path, "tflite"), kwargs=dict(threads=1)) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
os.write(2, b"between\\n")
tflite.load_interpreter_class = lambda: (Loud, "loud 1")
try:
    open_model(path, "tflite", threads=1)
except Exception as error:
    print(error, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stderr.splitlines() == ["between", "a warning", "backbone.tflite cannot be run by loud 1: refused"]
