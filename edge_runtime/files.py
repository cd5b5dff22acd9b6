"""Atomic writes and digests: nothing that SonoEdge writes is ever seen half-written."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sonoedge.edge_runtime.errors import UsageError

_FILE_SUFFIX = ".sonoedge-tmp"


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of bytes, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old content or the new one, never a part.

    Who may read it is what a plain write would give: the umask decides, or the file that is replaced.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned_files(path.parent.resolve())
    with _staging_file(path) as (handle, name):
        try:
            with os.fdopen(handle, "wb") as file:
                _keep_mode(path, name)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            name.replace(path)
        except BaseException:
            with suppress(OSError):
                name.unlink()
            raise


def write_text_atomic(path: Path, text: str) -> None:
    """`write_bytes_atomic` for UTF-8 text."""
    write_bytes_atomic(path, text.encode())


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
            _keep_mode(target, staging)
            yield staging
            if target.exists():
                _swap(staging, target)
            else:
                staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


@contextmanager
def _staging_file(path: Path) -> Iterator[tuple[int, Path]]:
    """A new file beside ``path``, ours as long as the block lasts, and a handle to write it."""
    while True:
        name = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_FILE_SUFFIX}")
        try:
            # Not mkstemp: its files are private whatever the umask says, and nothing tells the umask to us.
            handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError:
            continue
        with _owned(name) as ours:
            if ours:
                yield handle, name
                return
        os.close(handle)


@contextmanager
def _staging_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, ours as long as the block lasts."""
    while True:
        folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        with _owned(folder) as ours:
            if ours:
                yield folder
                return


def _keep_mode(path: Path, successor: Path) -> None:
    """Give a staging file or folder the permissions of what it will replace, before anything is in it."""
    if os.name != "nt":
        with suppress(FileNotFoundError):
            # Ours to fill in any case: a folder that was made read-only is replaced like any other.
            successor.chmod(stat.S_IMODE(path.stat().st_mode) | (stat.S_IRWXU if successor.is_dir() else 0))


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
        _remove_unless_locked(path)


@functools.cache
def _remove_abandoned_files(folder: Path) -> None:
    """Remove the staging files of processes that were killed: once a process and folder, which may be large."""
    for path in folder.glob(f".*{_FILE_SUFFIX}"):
        _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    """Remove a staging file or folder that no living process holds; nothing where the system has no locks."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            if _locked(handle):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        finally:
            os.close(handle)


@contextmanager
def _owned(path: Path) -> Iterator[bool]:
    """Hold the lock on a new staging file or folder; False where another process took it for abandoned."""
    if os.name == "nt":  # no locks, and an open file could not be renamed
        yield True
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _locked(handle) is not False and path.exists()
    finally:
        os.close(handle)


def _locked(handle: int) -> bool | None:
    """Take a lock that ends with the handle: False where another has it, None where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return None
    return True


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
