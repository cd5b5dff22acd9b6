"""One sentence when native code takes the process down: a signal leaves no chance to say anything.

Interpreters and NumPy are compiled for a family of processors; on an older one they end in SIGILL, as early as at
their import. A child process, forked before any of them is loaded, waits at a pipe into which Python's
`faulthandler` writes when the process dies of such a signal, and turns that into a sentence. It holds no more than
an empty interpreter, and ends with the process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import signal
import sys

_WORDS = {
    "Illegal instruction": "uses an instruction that this processor lacks: install the wheel for this processor",
    "Segmentation fault": "crashed (segmentation fault)",
    "Bus error": "crashed (bus error)",
    "Aborted": "gave up (abort)",
    "Floating-point exception": "crashed (arithmetic)",
}
_PACKAGES = r"(numpy|PIL|ai_edge_litert|tflite_runtime|openvino|onnxruntime|tensorflow|pydicom|gdcm|av)"


def report_crashes() -> None:
    """Call once, first thing, in the main thread of a program; does nothing where processes cannot be forked."""
    if not hasattr(os, "fork"):
        return
    try:
        reader, writer = os.pipe()
        child = os.fork()
    except OSError:  # not allowed to: then without
        return
    if child:
        os.close(reader)
        faulthandler.enable(writer, all_threads=False)
        return
    try:
        os.close(writer)
        # Ctrl-C goes to both; this one ends when the other does.
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        with os.fdopen(reader, encoding="utf-8", errors="replace") as pipe, contextlib.suppress(OSError):
            # The answers of the process must not stay open because of us.
            os.close(1)
            if text := sentence(pipe.read()):
                print(text, file=sys.stderr, flush=True)
    finally:
        os._exit(0)


def sentence(report: str) -> str:
    """What `faulthandler` wrote, in one sentence; empty where it wrote nothing."""
    found = re.search(r"Fatal Python error: (.+)", report)
    if not found:
        return ""
    # The innermost frame that belongs to a package with native code.
    package = re.search(rf'File "[^"]*[/\\]{_PACKAGES}[/\\]', report)
    who = package[1] if package else "a native library"
    return f"error: {who} {_WORDS.get(found[1].strip(), f'crashed ({found[1].strip()})')}. See `sonoedge doctor`."
