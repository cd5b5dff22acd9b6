"""Write whole folders in one step: a run, a bundle or a report is complete, or it is not there at all."""

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

    The permissions are those of the folder that is replaced; for a new folder the umask decides.

    Args:
        target: the folder to create. An existing one is replaced only if it is empty or holds ``marker``,
            the file by which we know our own output.
        marker: file name, for example ``bundle.json``.

    Yields:
        The temporary folder, empty.

    Raises:
        UsageError: the target may not be replaced (see `check_replaceable`); it stays as it was.
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
            if not _moved(staging, target):
                _swap(staging, target)
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


def _moved(staging: Path, target: Path) -> bool:
    """Rename ``staging`` if the place is free; False if it is taken, even if another process took it just now."""
    try:
        if target.exists():
            return False
        staging.rename(target)
    except OSError:
        if target.exists():
            return False
        raise
    return True


def _swap(staging: Path, target: Path) -> None:
    """Put staging in the target's place and remove the old content."""
    if _exchange(staging, target):
        shutil.rmtree(staging, ignore_errors=True)
        return
    # A rename cannot replace a folder with content: move the old one aside first, and put it back if the second
    # rename fails. If the process is killed between the two, `_restore` puts it back.
    aside = staging.with_name(staging.name + ".old")
    target.rename(aside)
    try:
        staging.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two paths in one step; False if the system cannot (Linux only, and not on every file system).

    Even if the process is killed, one of the two folders is in place.
    """
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
    """Bring back the folder that a process had moved aside when it was killed in the middle of `_swap`."""
    aside = sorted(target.parent.glob(f".{_escaped(target.name)}.*.partial.old")) if target.parent.is_dir() else []
    if aside and not target.exists():
        aside[-1].rename(target)


def _remove_abandoned(target: Path) -> None:
    """Remove the staging folders of processes that were killed; those of living ones are locked."""
    for path in target.parent.glob(f".{_escaped(target.name)}.*.partial*"):
        remove_unless_locked(path)


def _escaped(name: str) -> str:
    """The glob pattern that matches only this name."""
    return re.sub(r"([\[*?])", r"[\1]", name)


def check_replaceable(target: Path, *, marker: str) -> None:
    """Check that a folder is missing, empty, or our own earlier output (it holds the file ``marker``).

    Raises:
        UsageError: the folder holds something else, is no folder, or is the current folder or one above it.
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
