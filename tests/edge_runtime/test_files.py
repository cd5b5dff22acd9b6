"""Nothing half-written is ever seen, whatever interrupts the writing."""

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

from sonoedge.edge_runtime import files
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.files import (
    atomic_directory,
    check_replaceable,
    sha256_bytes,
    sha256_file,
    write_bytes_atomic,
    write_text_atomic,
)

MARKER = "bundle.json"


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def own_output(target: Path) -> Path:
    target.mkdir()
    (target / MARKER).write_text("old")
    (target / "old.txt").write_text("old")
    return target


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


def test_directory_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with atomic_directory(target, marker=MARKER) as staging:
        (staging / MARKER).write_text("new")
        assert not target.exists()
        assert staging.parent == target.parent
    assert names_in(tmp_path) == ["deep", "deep/out", f"deep/out/{MARKER}"]


def test_directory_replaces_own_output_completely(tmp_path: Path) -> None:
    target = own_output(tmp_path / "out")
    with atomic_directory(target, marker=MARKER) as staging:
        (staging / MARKER).write_text("new")
        assert (target / MARKER).read_text() == "old"
    assert names_in(tmp_path) == ["out", f"out/{MARKER}"]
    assert (target / MARKER).read_text() == "new"


def test_directory_replaces_an_empty_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with atomic_directory(target, marker=MARKER) as staging:
        (staging / "new.txt").write_text("new")
    assert names_in(tmp_path) == ["out", "out/new.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existing", [True, False])
def test_an_exception_leaves_the_old_folder_only(
    error: type[BaseException], existing: bool, tmp_path: Path
) -> None:
    if existing:
        own_output(tmp_path / "out")
    before = names_in(tmp_path)
    with pytest.raises(error), atomic_directory(tmp_path / "out", marker=MARKER) as staging:
        (staging / "half.txt").write_text("half")
        raise error
    assert names_in(tmp_path) == before
    assert not existing or (tmp_path / "out" / MARKER).read_text() == "old"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_old_folder_comes_back_when_the_swap_fails(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = own_output(tmp_path / "out")
    before = names_in(tmp_path)
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if self.suffix == ".partial":
            raise error
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    with pytest.raises(error), atomic_directory(target, marker=MARKER) as staging:
        (staging / MARKER).write_text("new")
    assert names_in(tmp_path) == before
    assert (target / MARKER).read_text() == "old"


KILLED = """
import os, signal, sys
from pathlib import Path
from sonoedge.edge_runtime import files
target, when = Path(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if when == "between":
    files._exchange = lambda *_: False
    rename = Path.rename
    Path.rename = lambda self, to: die() if self.suffix == ".partial" else rename(self, to)
with files.atomic_directory(target, marker="bundle.json") as staging:
    (staging / "bundle.json").write_text("new")
    if when == "within":
        die()
if when == "after":
    die()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="kill -9, locks and the exchange of Linux")
@pytest.mark.parametrize(("when", "content"), [("within", "old"), ("between", "old"), ("after", "new")])
def test_a_killed_process_loses_nothing_and_is_cleaned_up_after(when: str, content: str, tmp_path: Path) -> None:
    target = own_output(tmp_path / "out[1]*")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(target), when], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert when == "between" or (target / MARKER).read_text() == content
    with pytest.raises(ValueError), atomic_directory(target, marker=MARKER):
        assert (target / MARKER).read_text() == content
        assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".old")] == []
        assert len(list(tmp_path.iterdir())) == 2  # the target and our own staging folder
        raise ValueError
    assert (target / MARKER).read_text() == content


def test_another_process_at_work_keeps_its_staging_folder(tmp_path: Path) -> None:
    """Two at one target: the later one to finish wins, and neither disturbs the other."""
    target = tmp_path / "out"
    with atomic_directory(target, marker=MARKER) as first:
        (first / MARKER).write_text("first")
        with atomic_directory(target, marker=MARKER) as second:
            assert (first / MARKER).read_text() == "first"
            (second / MARKER).write_text("second")
        assert (target / MARKER).read_text() == "second"
    assert (target / MARKER).read_text() == "first"
    assert names_in(tmp_path) == ["out", f"out/{MARKER}"]


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "photos"
    target.mkdir()
    (target / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(UsageError, match=MARKER), atomic_directory(target, marker=MARKER):
        pytest.fail("the block must not run")
    assert names_in(tmp_path) == ["photos", "photos/holiday.jpg"]


def test_file_and_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    own_output(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = names_in(tmp_path)
    for name in ("file", "link", "dangling"):
        with pytest.raises(UsageError, match="not a folder"), atomic_directory(tmp_path / name, marker=MARKER):
            pytest.fail("the block must not run")
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("name", [".", ".."])
def test_the_current_folder_is_refused_before_the_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = own_output(tmp_path / "run")
    (target / "inner").mkdir()
    monkeypatch.chdir(target if name == "." else target / "inner")
    with pytest.raises(UsageError, match="current folder"), atomic_directory(Path(name), marker=MARKER):
        pytest.fail("the block must not run")
    assert names_in(tmp_path) == ["run", f"run/{MARKER}", "run/inner", "run/old.txt"]


def test_check_replaceable_accepts(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "missing", marker=MARKER)
    check_replaceable(own_output(tmp_path / "own"), marker=MARKER)
    (tmp_path / "empty").mkdir()
    check_replaceable(tmp_path / "empty", marker=MARKER)


KILLED_FILE = """
import os, signal, sys
from pathlib import Path
from sonoedge.edge_runtime import files
files.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
files.write_bytes_atomic(Path(sys.argv[1]), b"new")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="kill -9 and locks")
def test_the_file_of_a_killed_process_is_removed_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    """Found by scripts/check_kill.py: a killed writer's file stayed for ever."""
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


RACE = """
import sys, time
from pathlib import Path
from sonoedge.edge_runtime import files
folder, end = Path(sys.argv[1]), time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    files._remove_abandoned_files.cache_clear()
    files.write_bytes_atomic(folder / "shared.txt", sys.argv[2].encode() * 1000)
    text = (folder / "shared.txt").read_text()
    assert len(text) == 1000 and len(set(text)) == 1, text[:20]
    with files.atomic_directory(folder / "out", marker="bundle.json") as staging:
        (staging / "bundle.json").write_text(sys.argv[2])
        (staging / "second.txt").write_text(sys.argv[2])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="locks and the exchange of Linux")
def test_processes_that_write_the_same_things_at_once(tmp_path: Path) -> None:
    """None takes another's staging file or folder for abandoned, and readers see whole files of one of them."""
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    workers = [subprocess.Popen([*command, name, "2"], stderr=subprocess.PIPE, text=True) for name in "abc"]
    errors = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], errors
    assert names_in(tmp_path) == ["out", f"out/{MARKER}", "out/second.txt", "shared.txt"]
    assert (tmp_path / "out" / MARKER).read_text() == (tmp_path / "out/second.txt").read_text()
