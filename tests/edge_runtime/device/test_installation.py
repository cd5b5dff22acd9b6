"""Installed bundles: whole versions, one link, a way back; killed anywhere, the old or the new one is in use."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from scripts.checks.kill_processes import wait, watch_files
from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.device import installation as module
from sonoedge.edge_runtime.device.installation import Installation
from sonoedge.edge_runtime.errors import BundleError, DataError, UsageError, VerificationError
from sonoedge.edge_runtime.files import keep_from_removal
from tests.helpers.bundles import build, rewrite, set_in


def make(folder: Path, name: str) -> Bundle:
    """A bundle of dummy files, unlike those of other names."""
    build(folder / name)
    rewrite(folder / name, set_in("name", to=name))
    return load_bundle(folder / name)


def good(bundle: Bundle) -> None:
    """A health check that everything passes."""


def bad(bundle: Bundle) -> None:
    raise VerificationError("It answers otherwise.")


def install(root: Path, bundle: Bundle, keep: int = 2) -> None:
    place = Installation(root)
    with place.locked():
        place.add(bundle, good, keep)


def in_use(root: Path) -> str:
    return load_bundle(root / "current").name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "device"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="fork and kill -9")
def test_killed_before_any_file_operation(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions 1 and 2 are installed; the install of 3, which also removes 1, is killed at every step."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the power stays on
    bundles = [make(tmp_path, name) for name in ("one", "two", "three")]
    for bundle in bundles[:2]:
        install(root, bundle)
    spare = shutil.copytree(root, tmp_path / "spare", symlinks=True)
    seen, step, killed = set(), 0, True
    while killed:
        shutil.rmtree(root)
        shutil.copytree(spare, root, symlinks=True)
        pid = os.fork()
        if not pid:
            watch_files(root, step)
            install(root, bundles[2])
            os._exit(0)
        killed = wait(pid) == -signal.SIGKILL
        seen.add(in_use(root))
        assert all(load_bundle(one.path) for one in Installation(root).versions())
        install(root, bundles[2])
        assert (in_use(root), [p.name[0] for p in (root / "versions").iterdir()]) == ("three", ["0", "0"])
        assert [load_bundle(one.path).name for one in Installation(root).back()] == ["three", "two"]
        assert not list(root.glob(".*"))
        step += 1
    assert (seen, step > 30) == ({"two", "three"}, True)


def test_a_bundle_that_fails_its_check_does_not_become_current(tmp_path: Path, root: Path) -> None:
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    install(root, one)
    place = Installation(root)
    with place.locked(), pytest.raises(VerificationError):
        place.add(two, bad, 2)
    assert (in_use(root), len(list((root / "versions").iterdir()))) == ("one", 1)


def test_old_versions_are_removed_and_the_way_back_stays(tmp_path: Path, root: Path) -> None:
    for name in ("one", "two", "three", "four"):
        install(root, make(tmp_path, name), keep=3)
    assert [load_bundle(one.path).name for one in Installation(root).back()] == ["four", "three", "two"]
    assert len(list((root / "versions").iterdir())) == 3


def test_what_was_rolled_back_is_no_way_back(tmp_path: Path, root: Path) -> None:
    bundles = [make(tmp_path, name) for name in ("one", "two", "three")]
    for bundle in bundles[:2]:
        install(root, bundle)
    place = Installation(root)
    place.switch(place.back()[1])
    assert (in_use(root), len(place.back())) == ("one", 1)
    install(root, bundles[2])
    assert [load_bundle(one.path).name for one in place.back()] == ["three", "one"]


def test_a_bundle_in_use_is_not_removed(tmp_path: Path, root: Path) -> None:
    install(root, make(tmp_path, "one"))
    served = load_bundle(root / "current").path
    handle = keep_from_removal(served)
    assert handle is not None
    install(root, make(tmp_path, "two"))
    install(root, make(tmp_path, "three"))
    assert load_bundle(served).name == "one"
    os.close(handle)
    install(root, make(tmp_path, "four"))
    assert not served.exists()


def test_a_loaded_bundle_keeps_its_files(tmp_path: Path, root: Path) -> None:
    """The link is followed once: otherwise bundle.json would be of one version and the model files of the next."""
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    install(root, one)
    loaded = load_bundle(root / "current")
    install(root, two)
    assert bundle_digest(loaded.path) == bundle_digest(one.path)


def test_the_same_bundle_again_is_only_checked(tmp_path: Path, root: Path) -> None:
    one = make(tmp_path, "one")
    install(root, one)
    before = (root / "current").readlink()
    install(root, one)
    assert (root / "current").readlink() == before
    (one.path / "SHA256SUMS.sig").write_text("signed since")
    install(root, one)
    assert (root / "current/SHA256SUMS.sig").read_text() == "signed since"


def test_a_damaged_installed_bundle_is_replaced(tmp_path: Path, root: Path) -> None:
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    install(root, one)
    install(root, two)
    (root / "current/tflite-fp32/head.tflite").write_bytes(b"rust")
    install(root, two)
    assert [load_bundle(v.path).name for v in Installation(root).back()] == ["two", "one"]
    assert len(list((root / "versions").iterdir())) == 2


def test_two_installs_do_not_collide(tmp_path: Path, root: Path) -> None:
    one = make(tmp_path, "one")
    with Installation(root).locked(), pytest.raises(UsageError, match="Another"):
        install(root, one)
    install(root, one)


def test_a_source_that_changes_meanwhile(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make(tmp_path, "one")
    original = module.copy_synced

    def change(source: Path, target: Path) -> None:
        original(source, target)
        if target.name == "head.tflite":
            target.write_bytes(b"other")

    monkeypatch.setattr(module, "copy_synced", change)
    with pytest.raises(BundleError, match=r"head\.tflite has changed"):
        install(root, one)
    assert not (root / "current").exists()


def test_no_space(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    install(root, one)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 500_000))
    with pytest.raises(DataError, match=r"0\.5 MB free; the bundle needs 1\.\d MB"):
        install(root, two)
    monkeypatch.undo()

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(module, "copy_synced", full)
    with pytest.raises(OSError, match="No space"):
        install(root, two)
    assert (in_use(root), len(list((root / "versions").iterdir()))) == ("one", 1)


def test_folders_that_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        Installation(tmp_path / "file")
    with pytest.raises(UsageError, match="other files"):
        Installation(tmp_path)
    (tmp_path / "device/current").mkdir(parents=True)
    with pytest.raises(UsageError, match="no link"):
        Installation(tmp_path / "device")
