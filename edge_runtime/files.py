"""Atomic writes and digests: nobody ever sees a half-written file of SonoEdge."""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FILE_SUFFIX = ".sonoedge-tmp"


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of bytes, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old content or the new content, never a part.

    The permissions are those of a plain write: of the file that is replaced, else by the umask. Missing folders
    are made.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned_files(path.parent.resolve())
    with _staging_file(path) as (handle, name):
        try:
            with os.fdopen(handle, "wb") as file:
                keep_mode(path, name)
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
def _staging_file(path: Path) -> Iterator[tuple[int, Path]]:
    """A new file beside ``path``, locked within the block, and a handle to write it."""
    while True:
        name = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_FILE_SUFFIX}")
        try:
            # Not mkstemp: its files are private whatever the umask is, and the umask cannot be read safely.
            handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError:
            continue
        with owned(name) as ours:
            if ours:
                yield handle, name
                return
        os.close(handle)


def keep_mode(path: Path, successor: Path) -> None:
    """Give an empty staging file or folder the permissions of the file or folder that it will replace."""
    if os.name != "nt":
        with suppress(FileNotFoundError):
            # We must be able to fill a folder: a read-only one is replaced like any other.
            successor.chmod(stat.S_IMODE(path.stat().st_mode) | (stat.S_IRWXU if successor.is_dir() else 0))


@functools.cache
def _remove_abandoned_files(folder: Path) -> None:
    """Remove the staging files of killed processes; once per process and folder, because folders may be large."""
    for path in folder.glob(f".*{_FILE_SUFFIX}"):
        remove_unless_locked(path)


def remove_unless_locked(path: Path) -> None:
    """Remove a staging file or folder that no living process holds; do nothing if the system has no locks."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            if _locked(handle):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        finally:
            os.close(handle)


@contextmanager
def owned(path: Path) -> Iterator[bool]:
    """Hold the lock on a new staging file or folder; False if another process took the file for abandoned."""
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


def keep_from_removal(path: Path) -> int | None:
    """Hold a folder against `owned` and `remove_unless_locked` of other processes, until the handle is closed.

    Several processes may hold one folder. None if the system has no locks, or if the folder is being removed.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return None
    if _locked(handle, shared=True):
        return handle
    os.close(handle)
    return None


def copy_synced(source: Path, target: Path) -> None:
    """Copy a file's content to a new file and wait until it is on the disk; permissions are by the umask."""
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk; some systems cannot, and there nothing is done."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _locked(handle: int, *, shared: bool = False) -> bool | None:
    """Take a lock that ends with the handle; False if another process has it, None if there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return None
    return True
