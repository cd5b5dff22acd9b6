"""Files are whole or not there, whatever interrupts the writing."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sonoedge.edge_runtime.files import sha256_bytes, sha256_file, write_bytes_atomic, write_text_atomic
from sonoedge.train.folders import atomic_directory
from tests.helpers.places import MARKER, names_in, own_output


def disk_full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_digests(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "data").write_bytes(data)
    assert sha256_bytes(data) == sha256_file(tmp_path / "data") == hashlib.sha256(data).hexdigest()
    assert sha256_bytes(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_write_creates_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_bytes_atomic(path, b"one")
    write_bytes_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    write_text_atomic(path, "Größe\n")
    assert path.read_bytes() == "Größe\n".encode()
    assert names_in(tmp_path) == ["a", "a/b", "a/b/file.bin"]


@pytest.fixture(params=[0o022, 0o077, 0o002, 0o027], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_the_umask_decides_who_may_read(umask: int, tmp_path: Path) -> None:
    """Results are as private as the user's own files: heat maps and reports are patient data."""
    path = tmp_path / "results" / "file.bin"
    write_bytes_atomic(path, b"new")
    assert (mode_of(path), mode_of(path.parent)) == (0o666 & ~umask, 0o777 & ~umask)
    with atomic_directory(tmp_path / "out", marker=MARKER) as staging:
        assert mode_of(staging) == 0o777 & ~umask
        (staging / MARKER).write_text("new")
    assert mode_of(tmp_path / "out") == 0o777 & ~umask


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_what_is_replaced_decides_who_may_read(umask: int, tmp_path: Path) -> None:
    """As with a plain write: a file that was made private, or shared, stays so."""
    path, folder = tmp_path / "file.bin", own_output(tmp_path / "out")
    path.touch()
    for file_mode, folder_mode in ((0o600, 0o700), (0o664, 0o775)):
        path.chmod(file_mode)
        folder.chmod(folder_mode)
        write_bytes_atomic(path, b"new")
        with atomic_directory(folder, marker=MARKER) as staging:
            (staging / MARKER).write_text("new")
        assert (mode_of(path), mode_of(folder)) == (file_mode, folder_mode)


@pytest.mark.parametrize("existing", [True, False])
def test_full_disk_keeps_the_old_file(existing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    if existing:
        path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError) as caught:
        write_bytes_atomic(path, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert names_in(tmp_path) == (["file.bin"] if existing else [])
    assert not existing or path.read_bytes() == b"old"


def test_interrupt_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes_atomic(path, b"new")
    assert names_in(tmp_path) == ["file.bin"]
    assert path.read_bytes() == b"old"


def test_a_folder_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file.bin").mkdir()
    with pytest.raises(OSError):
        write_bytes_atomic(tmp_path / "file.bin", b"new")
    assert names_in(tmp_path) == ["file.bin"]


KILLED_FILE = """
import os, signal, sys
from pathlib import Path
from sonoedge.edge_runtime import files
files.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
files.write_bytes_atomic(Path(sys.argv[1]), b"new")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="kill -9 and locks")
def test_the_file_of_a_killed_process_is_removed_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    """Found by scripts/checks/kill.py: a killed writer's file stayed for ever."""
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED_FILE, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(names_in(tmp_path)) == 2
    own = tmp_path / ".mine.tmp"
    own.write_text("not ours to remove")
    write_bytes_atomic(tmp_path / "other.json", b"new")
    assert names_in(tmp_path) == [".mine.tmp", "other.json", "out.json"]
