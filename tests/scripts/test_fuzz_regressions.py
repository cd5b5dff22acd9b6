"""Parsers of files of unknown origin: a result or one of our errors, whatever comes; findings of scripts/fuzz.py.

The script runs more inputs than fit here; a finding of it becomes a test of its own below.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, parse_digests
from sonoedge.edge_runtime.bundle.contract import MANIFEST
from sonoedge.edge_runtime.bundle.manifest import decode_manifest
from sonoedge.edge_runtime.device.replay import MAX_GOLDEN_BYTES, parse_golden
from sonoedge.edge_runtime.errors import BundleError
from tests.helpers.bundles import build
from tests.helpers.places import ROOT

SCRIPT = ROOT / "scripts/fuzz.py"
EXAMPLES = settings(max_examples=200)


def golden_arrays() -> dict[str, np.ndarray]:
    return {
        "image_0": np.zeros((4, 5, 3), np.uint8),
        "reference_logit": np.zeros(1, np.float32),
        "reference_cam": np.zeros((1, 2, 2), np.float32),
        "a.logit": np.zeros(1, np.float32),
        "a.cam": np.zeros((1, 2, 2), np.float32),
        "a.tolerance": np.ones(3, np.float32),
    }


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def with_member(name: str, data: bytes) -> bytes:
    """golden.npz whose member is these bytes, with a correct checksum."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pack(golden_arrays()))) as whole, zipfile.ZipFile(buffer, "w") as archive:
        for member in whole.namelist():
            archive.writestr(member, data if member == name else whole.read(member))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("fuzz") / "bundle").path


def test_a_sound_golden_file() -> None:
    assert parse_golden(pack(golden_arrays()), ["a"])["a.tolerance"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_0": np.zeros((4, 5), np.uint8)}, "image_0 is not"),
        ({"image_0": np.zeros((4, 5, 3), np.float32)}, "image_0 is not"),
        ({"image_0": np.zeros((0, 5, 3), np.uint8)}, "image_0 is not"),
        ({"reference_logit": np.zeros(0, np.float32)}, r"reference_logit must be \(N,\)"),
        ({"reference_logit": np.zeros(2, np.float32)}, r"reference_logit must be \(N,\)"),
        ({"reference_logit": np.array(0, np.float32)}, r"reference_logit must be \(N,\)"),
        ({"a.logit": np.zeros(2, np.float32)}, "a.logit must be float32"),
        ({"a.cam": np.zeros((1, 2, 3), np.float32)}, "a.cam must be float32"),
        ({"a.tolerance": np.ones(3)}, "a.tolerance must be float32"),
        ({"a.tolerance": np.array([None])}, "cannot be read"),
    ],
)
def test_golden_arrays_of_another_form(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        parse_golden(pack({**golden_arrays(), **change}), ["a"])


def test_a_golden_file_of_another_artifact() -> None:
    with pytest.raises(BundleError, match=r"lacks b\.logit"):
        parse_golden(pack(golden_arrays()), ["a", "b"])


@pytest.mark.long
def test_a_golden_file_that_unpacks_to_too_much() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image_0.npy", b"\0" * (MAX_GOLDEN_BYTES + 1))
    assert len(buffer.getvalue()) < MAX_GOLDEN_BYTES / 500
    with pytest.raises(BundleError, match="would unpack"):
        parse_golden(buffer.getvalue(), ["a"])


@pytest.mark.parametrize("data", [b"", b"\x93", b"no array at all"])
def test_a_member_that_is_no_array(data: bytes) -> None:
    """Found by fuzzing: NumPy hands such a member out as bytes."""
    with pytest.raises(BundleError, match=r"not an array|cannot be read"):
        parse_golden(with_member("reference_logit.npy", data), ["a"])


def npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@EXAMPLES
@given(st.binary(max_size=300))
@example(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }"))
@example(npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + b"cos\nsystem\n(S'false'\ntR.")
@example(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"))
@example(npy(b"(" * 2000))
@example(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }"))
def test_any_array_file(data: bytes) -> None:
    with suppress(BundleError):
        parse_golden(with_member("reference_logit.npy", data), ["a"])


@EXAMPLES
@given(st.data())
def test_a_changed_golden_file(data: st.DataObject) -> None:
    whole = bytearray(pack(golden_arrays()))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BundleError):
        parse_golden(bytes(whole), ["a"])


@EXAMPLES
@given(st.data())
def test_a_changed_manifest(folder: Path, data: st.DataObject) -> None:
    whole = (folder / MANIFEST).read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    inserted = data.draw(
        st.sampled_from([b"", b"null", b"NaN", b"-1e999", b"[" * 5000, b"9" * 5000, b"\xff", b'"'])
    )
    changed = whole[:at] + inserted + whole[at + data.draw(st.integers(0, 3)) :]
    try:
        bundle = decode_manifest(changed, folder)
    except BundleError:
        return
    assert bundle.artifacts and 0 <= bundle.artifacts[0].threshold <= 1


@pytest.mark.long
@EXAMPLES
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_a_manifest_with_a_value_of_any_kind(folder: Path, value: object) -> None:
    body = json.loads((folder / MANIFEST).read_bytes())
    for key in body:
        try:
            decode_manifest(json.dumps({**body, key: value}).encode(), folder)
        except BundleError:
            continue
        assert isinstance(value, type(body[key]))


@EXAMPLES
@given(st.data())
def test_one_text_for_one_table_of_sums(folder: Path, data: st.DataObject) -> None:
    whole = (folder / SHA256SUMS).read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    changed = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + data.draw(st.integers(0, 2)) :]
    try:
        digests = parse_digests(changed)
    except BundleError:
        return
    assert "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode() == changed


@pytest.mark.long
def test_the_script_counts_and_finds(folder: Path, tmp_path: Path) -> None:
    """A short run of it; and a parser with a bug is caught (a bundle whose golden file cannot be read)."""
    command = [
        sys.executable,
        SCRIPT,
        "--bundle",
        folder,
        "--findings",
        tmp_path,
        "--target",
        "sums",
        "--runs",
        "50",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert (body["inputs"], body["accepted"] + body["refused"], body["findings"]) == (50, 50, {})
    command[command.index("sums")] = "golden"  # its seed is no archive: the fuzzer itself must not pass in silence
    assert subprocess.run(list(map(str, command)), capture_output=True, check=False).returncode == 1
