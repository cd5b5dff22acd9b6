"""Folders are replaced at once or not at all, whatever interrupts the writing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train import folders
from sonoedge.train.folders import atomic_directory, check_replaceable
from tests.helpers.places import MARKER, names_in, own_output


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
    monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    with pytest.raises(error), atomic_directory(target, marker=MARKER) as staging:
        (staging / MARKER).write_text("new")
    assert names_in(tmp_path) == before
    assert (target / MARKER).read_text() == "old"


def test_another_process_creates_the_folder_at_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename, others = tmp_path / "out", Path.rename, ["one"]

    def late(self: Path, to: Path) -> Path:
        if others and self.suffix == ".partial":
            others.clear()
            own_output(target)
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", late)
    with atomic_directory(target, marker=MARKER) as staging:
        (staging / MARKER).write_text("new")
    assert names_in(tmp_path) == ["out", f"out/{MARKER}"]
    assert (target / MARKER).read_text() == "new"


KILLED = """
import os, signal, sys
from pathlib import Path
from sonoedge.train import folders
target, when = Path(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if when == "between":
    folders._exchange = lambda *_: False
    rename = Path.rename
    Path.rename = lambda self, to: die() if self.suffix == ".partial" else rename(self, to)
with folders.atomic_directory(target, marker="bundle.json") as staging:
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


RACE = """
import sys, time
from pathlib import Path
from sonoedge.edge_runtime import files
from sonoedge.train import folders
folder, end = Path(sys.argv[1]), time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    files._remove_abandoned_files.cache_clear()
    files.write_bytes_atomic(folder / "shared.txt", sys.argv[2].encode() * 1000)
    text = (folder / "shared.txt").read_text()
    assert len(text) == 1000 and len(set(text)) == 1, text[:20]
    with folders.atomic_directory(folder / "out", marker="bundle.json") as staging:
        (staging / "bundle.json").write_text(sys.argv[2])
        (staging / "second.txt").write_text(sys.argv[2])
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="locks and the exchange of Linux")
def test_processes_that_write_the_same_things_at_once(tmp_path: Path) -> None:
    """None takes another's staging file or folder for abandoned, and readers see whole files of one of them."""
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    workers = [subprocess.Popen([*command, name, "2"], stderr=subprocess.PIPE, text=True) for name in "abc"]
    errors = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], errors
    assert names_in(tmp_path) == ["out", f"out/{MARKER}", "out/second.txt", "shared.txt"]
    assert (tmp_path / "out" / MARKER).read_text() == (tmp_path / "out/second.txt").read_text()
