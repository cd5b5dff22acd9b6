"""Child processes in Python: they import SonoEdge from where this process did, never from the working directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sonoedge

_ROOT = str(Path(sonoedge.__file__).parents[1])
"""The folder that holds the package: a checkout, or site-packages."""


def python_call(function: str, *arguments: object) -> list[str]:
    """The command line of a child that ends with what ``function`` returns, an exit code or None.

    Args:
        function: ``package.module:name``; it gets ``arguments`` as texts.
    """
    module, name = function.split(":")
    code = f"import sys; from {module} import {name}; sys.exit({name}(*sys.argv[1:]))"
    # -P: files in the working directory that are named like our modules, or like Python's, are not ours.
    return [sys.executable, "-P", "-c", code, *map(str, arguments)]


def child_environment(**variables: str) -> dict[str, str]:
    """This process's environment, in which a child finds the same SonoEdge, and ``variables``."""
    paths = [_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}


@contextmanager
def safe_path() -> Iterator[None]:
    """Within the block, every Python child process starts as with -P: for pools, whose command line is not ours."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before
