"""SHA256SUMS: every changed byte is found, and nothing but plain sorted lines is read."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS
from sonoedge.edge_runtime.bundle.contract import GOLDEN, MANIFEST, Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import BundleError
from tests.helpers.bundles import BAD_PATHS, FILES


def test_sums_cover_every_other_file(bundle: Bundle) -> None:
    lines = (bundle.path / SHA256SUMS).read_text().splitlines()
    assert [line[66:] for line in lines] == sorted([*FILES, MANIFEST])
    assert all(line[64:66] == "  " for line in lines)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs the sha256sum tool")
def test_sha256sum_agrees(bundle: Bundle) -> None:
    def check() -> int:
        command = ["sha256sum", "--check", "--strict", "--quiet", SHA256SUMS]
        return subprocess.run(command, cwd=bundle.path, capture_output=True, check=False).returncode

    assert check() == 0
    (bundle.path / GOLDEN).write_bytes(b"changed")
    assert check() != 0


@settings(max_examples=200)
@given(name=st.sampled_from(sorted([*FILES, MANIFEST, SHA256SUMS])), place=st.integers(0), flip=st.integers(1, 255))
@example(name=SHA256SUMS, place=-1, flip=0x0A ^ 0x0D)
@example(name=SHA256SUMS, place=-1, flip=0x0A ^ 0x0C)
def test_any_changed_byte_is_found(name: str, place: int, flip: int, shared: Path) -> None:
    path = shared / name
    original = path.read_bytes()
    changed = bytearray(original)
    changed[place % len(changed)] ^= flip
    path.write_bytes(changed)
    try:
        with pytest.raises(BundleError):
            load_bundle(shared)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("end", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028", ""])
def test_any_changed_line_end_in_the_sums_is_found(end: str, bundle: Bundle) -> None:
    text = (bundle.path / SHA256SUMS).read_bytes().decode()
    for changed in (text[:-1] + end, text.replace("\n", end, 1), text.replace("\n", end)):
        (bundle.path / SHA256SUMS).write_bytes(changed.encode())
        with pytest.raises(BundleError):
            load_bundle(bundle.path)


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_in_the_sums(path: str, bundle: Bundle) -> None:
    (bundle.path.parent / "outside.tflite").write_bytes(FILES[GOLDEN])
    lines = (bundle.path / SHA256SUMS).read_text().splitlines()
    digest = next(line[:64] for line in lines if line.endswith(GOLDEN))
    lines = sorted([*lines, f"{digest}  {path}"], key=lambda line: line[66:])
    (bundle.path / SHA256SUMS).write_text("\n".join(lines) + "\n")
    with pytest.raises(BundleError, match="not a plain path"):
        load_bundle(bundle.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[::-1], "not sorted"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "not sorted"),
        (lambda lines: [lines[0], *lines], "twice"),
        (lambda lines: [lines[0].upper(), *lines[1:]], "line 1 is not"),
        (lambda lines: [lines[0][:64].upper() + lines[0][64:], *lines[1:]], "line 1 is not"),
        (lambda lines: [lines[0].replace("  ", " *"), *lines[1:]], "line 1 is not"),
        (lambda lines: [lines[0].replace("  ", " "), *lines[1:]], "line 1 is not"),
        (lambda lines: [lines[0][1:], *lines[1:]], "line 1 is not"),
        (lambda lines: [*lines, ""], "is not"),
        (lambda lines: ["# digests", *lines], "line 1 is not"),
        (lambda lines: [line + "\r" for line in lines], "missing"),
        (lambda lines: lines[1:], "does not list"),
        (lambda lines: [], "does not"),
    ],
)
def test_malformed_sums(change: Callable[[list[str]], list[str]], message: str, bundle: Bundle) -> None:
    lines = (bundle.path / SHA256SUMS).read_bytes().decode().split("\n")[:-1]
    (bundle.path / SHA256SUMS).write_bytes("".join(f"{line}\n" for line in change(lines)).encode())
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle.path)


def test_sums_that_are_not_text(bundle: Bundle) -> None:
    (bundle.path / SHA256SUMS).write_bytes(b"\xff\xfe\n")
    with pytest.raises(BundleError, match="not UTF-8"):
        load_bundle(bundle.path)
