"""Checks of options that more than one command has, before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from sonoedge.edge_runtime.errors import UsageError


def check_new_run(out: Path, *, overwrite: bool) -> None:
    """Check that a run folder may be written.

    Raises:
        UsageError: the folder holds a finished run, and ``overwrite`` is false.
    """
    if (out / "run.json").exists() and not overwrite:
        raise UsageError(f"{out} holds a finished run. Choose another --out, or --overwrite.")


def check_ranges(*options: tuple[str, float, float, float]) -> None:
    """Check values of options; each row holds name, value, smallest and largest value.

    Raises:
        UsageError: a value outside its range.
    """
    for name, value, low, high in options:
        if not low <= value <= high:
            raise UsageError(f"{name} must be from {low} to {high}. Received: {value}.")
