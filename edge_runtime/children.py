"""Child processes. Those of Python import SonoEdge from the same folder as this process, never from the working
directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

_ROOT = str(Path(__file__).parents[2])
"""The folder that holds the package: a checkout, or site-packages."""


def python_call(function: str, *arguments: object) -> list[str]:
    """The command line of a child process that calls a function.

    Args:
        function: ``package.module:name``; it must return the exit code of the child, or None for 0.
        arguments: for the function, which gets them as strings.
    """
    module, name = function.split(":")
    code = f"import sys; from {module} import {name}; sys.exit({name}(*sys.argv[1:]))"
    # -P: the working directory may hold files named like our modules or Python's; they must not be imported.
    return [sys.executable, "-P", "-c", code, *map(str, arguments)]


def child_environment(**variables: str) -> dict[str, str]:
    """This process's environment and ``variables``, with a PYTHONPATH on which a child finds the same SonoEdge."""
    paths = [_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that an ended child process wrote, its errors first; at most 300 characters."""
    return (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1][:300]


@contextmanager
def safe_path() -> Iterator[None]:
    """Within the block, every Python child process starts as with -P: pools let us set no command line."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before
