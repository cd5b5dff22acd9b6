"""``sonoedge install``: what it prints, its exit codes, and that a failure leaves the device as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sonoedge.edge_runtime.bundle import signature, trust
from sonoedge.edge_runtime.commands import install
from sonoedge.edge_runtime.errors import BundleError, DataError, TrustError, UsageError, VerificationError
from tests.helpers.bundles import build, policy_file, rewrite, set_in, sign
from tests.helpers.commands import Sono
from tests.helpers.places import VECTORS

OLD, NEW = "2026-01-05T10:00:00Z", "2026-06-05T10:00:00Z"


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return tmp_path / "device"


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dummy files cannot be replayed."""
    monkeypatch.setattr(install, "replay_bundle", lambda bundle, **_: [])
    monkeypatch.setattr(install, "require_passed", lambda results: None)


@pytest.mark.long
def test_install_predict_and_go_back(device: Path, sonoedge: Sono) -> None:
    """The real health check, in its child process."""
    for source in ("bundle", "cascade"):
        result = sonoedge("install", VECTORS / source, "--to", device)
        assert (result.code, "installed: version" in result.out) == (0, True), result.err
    picture = VECTORS / "pictures/grey.png"
    assert sonoedge("predict", "--bundle", device / "current", picture, "--json").code in (0, 11)
    back = sonoedge("install", "--to", device, "--rollback")
    assert (back.code, "in use again: version 1" in back.out) == (0, True), back.err
    assert (device / "current/bundle.json").read_bytes() == (VECTORS / "bundle/bundle.json").read_bytes()
    again = sonoedge("install", "--to", device, "--rollback")
    assert (again.code, "no earlier bundle" in again.err) == (DataError.exit_code, True)


@pytest.mark.long
def test_other_results_than_at_export(device: Path, tmp_path: Path, sonoedge: Sono) -> None:
    """The digests are right, and so is the schema: only the golden images tell."""
    wrong = shutil.copytree(VECTORS / "bundle", tmp_path / "wrong")
    shutil.copy(wrong / "tflite-int8/backbone.tflite", wrong / "tflite-fp32/backbone.tflite")
    sign(wrong)
    assert sonoedge("install", VECTORS / "bundle", "--to", device).code == 0
    result = sonoedge("install", wrong, "--to", device)
    assert (result.code, "tflite-fp32 does not reproduce" in result.err) == (VerificationError.exit_code, True)
    status = json.loads(sonoedge("install", "--to", device, "--status", "--json").out)
    assert [(one["version"], one["current"]) for one in status["versions"]] == [(1, True)]


@pytest.mark.usefixtures("unchecked")
def test_a_rollback_is_checked(device: Path, tmp_path: Path, sonoedge: Sono) -> None:
    for name in ("one", "two"):
        build(tmp_path / name)
        rewrite(tmp_path / name, set_in("name", to=name))
        assert sonoedge("install", tmp_path / name, "--to", device).code == 0
    damaged = next((device / "versions").glob("0001-*")) / "golden.npz"
    damaged.write_bytes(b"rust")
    result = sonoedge("install", "--to", device, "--rollback")
    assert (result.code, "golden.npz has changed" in result.err) == (BundleError.exit_code, True)
    assert json.loads((device / "current/bundle.json").read_text())["name"] == "two"
    status = sonoedge("install", "--to", device, "--status").out
    assert ("current  version 2, two" in status, "before   version 1, one" in status) == (True, True)


@pytest.mark.usefixtures("unchecked")
def test_a_policy_that_remembers_the_newest(
    device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sonoedge: Sono
) -> None:
    """An install is no use of the bundle: the way back is open until the new bundle has answered."""
    pytest.importorskip("cryptography")
    key = signature.new_key(tmp_path / "a.key", tmp_path / "a.pub")
    policy = policy_file(tmp_path, allowed_signers={"a": key}, remember_newest=str(tmp_path / "newest.json"))
    for time in (OLD, NEW):
        build(tmp_path / time)
        rewrite(tmp_path / time, set_in("provenance", "created", to=time))
        refused = sonoedge("install", tmp_path / time, "--to", device, "--policy", policy)
        assert (refused.code, "not signed" in refused.err) == (TrustError.exit_code, True)
        signature.sign_bundle(tmp_path / time, tmp_path / "a.key")
        assert sonoedge("install", tmp_path / time, "--to", device, "--policy", policy).code == 0
    assert sonoedge("install", "--to", device, "--rollback", "--policy", policy).code == 0
    assert sonoedge("install", tmp_path / NEW, "--to", device, "--policy", policy).code == 0
    trust.load_trusted(device / "current", trust.read_policy(policy))
    monkeypatch.setenv(trust.POLICY_VARIABLE, str(policy))
    result = sonoedge("install", "--to", device, "--rollback")
    assert (result.code, "out of date" in result.err) == (TrustError.exit_code, True)
    assert json.loads((device / "current/bundle.json").read_text())["provenance"]["created"] == NEW
    other = tmp_path / "b.pub"
    signature.new_key(tmp_path / "b.key", other)
    assert sonoedge("install", tmp_path / NEW, "--to", device, "--key", other).code == TrustError.exit_code


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], UsageError.exit_code, "one of the three"),
        (["BUNDLE", "--rollback"], UsageError.exit_code, "one of the three"),
        (["BUNDLE", "--keep", "1"], UsageError.exit_code, "at least 2"),
        (["BUNDLE", "--timeout", "nan"], UsageError.exit_code, "more than 0 s"),
        (["BUNDLE", "--threads", "0"], UsageError.exit_code, "at least 1"),
        (["--status"], DataError.exit_code, "no installed bundle"),
        (["--rollback"], DataError.exit_code, "no installed bundle"),
        (["nowhere"], BundleError.exit_code, "No such bundle folder"),
        (["BUNDLE/tflite-fp32"], BundleError.exit_code, "is not a bundle"),
    ],
    ids=str,
)
def test_bad_input(arguments: list[str], code: int, words: str, device: Path, sonoedge: Sono) -> None:
    given = [word.replace("BUNDLE", str(VECTORS / "bundle")) for word in arguments]
    result = sonoedge("install", *given, "--to", device)
    assert (result.code, words in result.err, "Traceback" in result.err) == (code, True, False), result.err
    assert not device.exists()


def test_to_a_file(tmp_path: Path, sonoedge: Sono) -> None:
    (tmp_path / "file").write_text("kept")
    result = sonoedge("install", VECTORS / "bundle", "--to", tmp_path / "file")
    assert (result.code, "is a file" in result.err) == (UsageError.exit_code, True)
    assert (tmp_path / "file").read_text() == "kept"
