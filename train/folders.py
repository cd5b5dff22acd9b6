"""Whole folders in one step: a run, a bundle or a report is there complete, or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.files import keep_mode, owned, remove_unless_locked


@contextmanager
def atomic_directory(target: Path, *, marker: str) -> Iterator[Path]:
    """A temporary sibling folder that takes the target's place when the block ends without an error.

    Who may enter it is what ``mkdir`` would give: the umask decides, or the folder that is replaced.

    Args:
        target: the folder to create. An existing one is replaced only if it is empty or holds ``marker``,
            the file by which we know our own output.
        marker: file name, for example ``bundle.json``.

    Raises:
        UsageError: the target exists and is something else; it is left as it was.
    """
    target = Path(target)
    _restore(target)
    check_replaceable(target, marker=marker)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _staging_folder(target) as staging:
        _remove_abandoned(target)
        try:
            keep_mode(target, staging)
            yield staging
            if target.exists():
                _swap(staging, target)
            else:
                staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


@contextmanager
def _staging_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, ours as long as the block lasts."""
    while True:
        folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        with owned(folder) as ours:
            if ours:
                yield folder
                return


def _swap(staging: Path, target: Path) -> None:
    """Put staging in the target's place and remove the old content."""
    if _exchange(staging, target):
        shutil.rmtree(staging, ignore_errors=True)
        return
    # A rename cannot replace a folder with content: move the old one aside first, and put it back if the second
    # rename fails. (A process killed between the two leaves that to `_restore`.)
    aside = staging.with_name(staging.name + ".old")
    target.rename(aside)
    try:
        staging.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two paths in one step, so that even a killed process leaves one of them there; False where the
    system cannot (Linux only, and not on every file system)."""
    if sys.platform != "linux":
        return False
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    at_current_folder, exchange = -100, 2
    if renameat2 is None:
        return False
    done = renameat2(at_current_folder, os.fsencode(first), at_current_folder, os.fsencode(second), exchange)
    return bool(done == 0)


def _restore(target: Path) -> None:
    """Bring back what a process that was killed in the middle of `_swap` had moved aside."""
    aside = sorted(target.parent.glob(f".{_escaped(target.name)}.*.partial.old")) if target.parent.is_dir() else []
    if aside and not target.exists():
        aside[-1].rename(target)


def _remove_abandoned(target: Path) -> None:
    """Remove the staging folders of processes that were killed; those of living ones are locked."""
    for path in target.parent.glob(f".{_escaped(target.name)}.*.partial*"):
        remove_unless_locked(path)


def _escaped(name: str) -> str:
    """A name as a glob pattern that matches itself alone."""
    return re.sub(r"([\[*?])", r"[\1]", name)


def check_replaceable(target: Path, *, marker: str) -> None:
    """Raise `UsageError` unless the folder is missing, empty, or our own earlier output (holds ``marker``).

    The current folder and those above it are refused as well.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"{target} exists and is not a folder.")
    if target.is_dir() and any(target.iterdir()) and not (target / marker).is_file():
        raise UsageError(
            f"{target} exists, is not empty and holds no {marker}: it will not be replaced. Choose another folder."
        )
    if Path.cwd().is_relative_to(target.resolve()):
        # A rename of "." fails, and only after the hours of work that fill the folder.
        raise UsageError(
            f"{target} is the current folder or holds it: it cannot be replaced. Choose another folder."
        )
