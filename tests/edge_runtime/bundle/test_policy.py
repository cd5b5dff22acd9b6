"""The policy holds however a bundle is opened, for both models of a cascade; nothing older is used again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sonoedge.edge_runtime.bundle import signature, trust
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.bundle.freshness import created, dated
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.device.sandbox import replay_isolated
from sonoedge.edge_runtime.errors import BundleError, TrustError, UsageError
from sonoedge.edge_runtime.model.cascade import CASCADE, Cascade, open_classifier
from sonoedge.edge_runtime.model.classifier import Classifier
from tests.helpers.bundles import build, rewrite, set_in, sign
from tests.helpers.places import VECTORS

KEY = "ab" * 32


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the device's policy."""

    def set_policy(**body: Any) -> None:
        path = tmp_path / "policy.json"
        path.write_text(json.dumps({"policy_version": 1, **body}))
        monkeypatch.setenv(trust.POLICY_VARIABLE, str(path))

    return set_policy


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A cascade of its own to change."""
    return shutil.copytree(VECTORS / "cascade", tmp_path / "cascade")


OPENED: dict[str, Callable[[Path], object]] = {
    "Classifier(path)": Classifier,
    "Classifier(bundle)": lambda path: Classifier(load_bundle(path)),
    "Classifier(bundle, name)": lambda path: Classifier(load_bundle(path), "tflite-fp32"),
    "open_classifier(path)": open_classifier,
    "open_classifier(bundle)": lambda path: open_classifier(load_bundle(path)),
    "open_classifier(bundle, name)": lambda path: open_classifier(load_bundle(path), "tflite-fp32"),
    "Cascade(bundle)": lambda path: Cascade(load_bundle(path)),
    "Classifier(first)": lambda path: Classifier(load_bundle(path / "first")),
}


@pytest.mark.parametrize("way", OPENED)
def test_every_way_of_opening_obeys_the_policy(way: str, policy: Callable[..., None]) -> None:
    OPENED[way](VECTORS / "cascade")
    policy(allowed_signers={"clinic": KEY})
    with pytest.raises(TrustError, match="not signed"):
        OPENED[way](VECTORS / "cascade")


def test_an_artifact_below_the_policy_is_not_opened(both: Path, policy: Callable[..., None]) -> None:
    rewrite(both, set_in("artifacts", 0, "metrics", "auc", to=0.5))
    low, good = (artifact.name for artifact in load_bundle(both).artifacts)
    rewrite(both, set_in("artifacts", 1, "metrics", "auc", to=0.9))
    policy(required_metrics={"artifact.auc": {"min": 0.8}})
    assert Classifier(load_bundle(both)).artifact.name == good
    with pytest.raises(UsageError, match="no artifact"):
        Classifier(load_bundle(both), low)


def with_auc(folder: Path, *, first: float, full: float) -> None:
    for path, auc in ((folder / "first", first), (folder, full)):
        for index in range(len(json.loads((path / "bundle.json").read_text())["artifacts"])):
            rewrite(path, set_in("artifacts", index, "metrics", "auc", to=auc))
    sign(folder)


def test_the_cheap_model_of_a_cascade_needs_the_metrics_too(
    both: Path, policy: Callable[..., None], sonoedge: Callable
) -> None:
    policy(required_metrics={"artifact.auc": {"min": 0.8}})
    with_auc(both, first=0.9, full=0.9)
    assert isinstance(open_classifier(both), Cascade)
    with_auc(both, first=0.7, full=0.9)
    assert isinstance(open_classifier(both), Classifier)
    for way in (both, load_bundle(both)):
        with pytest.raises(BundleError, match="policy leaves out"):
            open_classifier(way, CASCADE)
    result = sonoedge("verify", both, "--in-process")
    assert (result.code, "left out by the policy: cascade" in result.out, "first/" in result.out) == (
        0,
        True,
        False,
    )


def test_a_cascade_needs_the_full_model(both: Path, policy: Callable[..., None]) -> None:
    name = load_bundle(both).cascade.full_artifact
    with_auc(both, first=0.9, full=0.9)
    index = [artifact.name for artifact in load_bundle(both).artifacts].index(name)
    rewrite(both, set_in("artifacts", index, "metrics", "auc", to=0.1))
    policy(required_metrics={"artifact.auc": {"min": 0.8}})
    assert isinstance(open_classifier(both), Classifier)


def test_replay_of_both_models_under_a_policy(both: Path, tmp_path: Path, sonoedge: Callable) -> None:
    """The signature is the whole bundle's: the cheap model in it has none of its own."""
    pytest.importorskip("cryptography")
    key = signature.new_key(tmp_path / "a.key", tmp_path / "a.pub")
    signature.sign_bundle(both, tmp_path / "a.key")
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"policy_version": 1, "allowed_signers": {"a": key}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(trust.POLICY_VARIABLE, str(path))
        result = sonoedge("verify", both, "--in-process")
        assert (result.code, "first/" in result.out) == (0, True), result.err
        assert isinstance(open_classifier(both), Cascade)
        assert replay_isolated(load_bundle(both), "tflite-fp32").passed


OLD, NEW, NEWEST = "2026-01-05T10:00:00Z", "2026-06-05T10:00:00Z", "2026-11-05T10:00:00Z"


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Bundle]:
    """A signed bundle by the time it was made."""
    pytest.importorskip("cryptography")
    signature.new_key(tmp_path / "a.key", tmp_path / "a.pub")

    def make(time: str, name: str = "busi") -> Bundle:
        folder = tmp_path / f"bundle {name} {time}"
        build(folder)
        rewrite(folder, set_in("name", to=name))
        if time:
            rewrite(folder, set_in("provenance", "created", to=time))
        signature.sign_bundle(folder, tmp_path / "a.key")
        return load_bundle(folder)

    return make


def signers(tmp_path: Path) -> dict[str, str]:
    return signature.read_public_keys([tmp_path / "a.pub"])


def test_a_bundle_made_before_the_policys_time_is_refused(
    made: Callable[..., Bundle], tmp_path: Path, policy: Callable[..., None]
) -> None:
    policy(allowed_signers=signers(tmp_path), minimum_created=NEW)
    for time in (NEW, NEWEST):
        assert trust.load_trusted(made(time).path).policy_checked
    with pytest.raises(TrustError, match=f"was made at {OLD}; the policy asks for one made at or after {NEW}"):
        trust.load_trusted(made(OLD).path)
    with pytest.raises(TrustError, match="does not say when"):
        trust.load_trusted(made("").path)


@pytest.mark.long
def test_a_device_does_not_go_back(
    made: Callable[..., Bundle], tmp_path: Path, policy: Callable[..., None], sonoedge: Callable
) -> None:
    record = tmp_path / "state" / "newest.json"
    old, new, newest, other = made(OLD), made(NEW), made(NEWEST), made(OLD, "other")
    policy(allowed_signers=signers(tmp_path), remember_newest=str(record))
    trust.load_trusted(old.path)
    trust.trusted(load_bundle(new.path))  # loaded already: remembered all the same
    assert json.loads(record.read_text()) == {"busi": NEW}
    for refused in (lambda: trust.load_trusted(old.path), lambda: trust.trusted(load_bundle(old.path))):
        with pytest.raises(TrustError, match=f"made at {OLD}; this device has used one made at {NEW}"):
            refused()
    trust.load_trusted(new.path)  # the same again
    trust.load_trusted(other.path)  # of another name
    # Looking at a new bundle is not using it: the one in use stays good.
    sonoedge("verify", newest.path, "--in-process")
    sonoedge("doctor", "--bundle", newest.path)
    assert json.loads(record.read_text()) == {"busi": NEW, "other": OLD}
    trust.load_trusted(new.path)
    result = sonoedge("verify", old.path)
    assert (result.code, "out of date" in result.err) == (TrustError.exit_code, True)


@pytest.mark.parametrize("content", ["", "[]", '{"busi": 3}', '{"busi": "yesterday"}'])
def test_a_damaged_record_stops_the_device(
    content: str, made: Callable[..., Bundle], tmp_path: Path, policy: Callable[..., None]
) -> None:
    record = tmp_path / "newest.json"
    record.write_text(content)
    bundle = made(NEW)
    policy(allowed_signers=signers(tmp_path), remember_newest=str(record))
    with pytest.raises(TrustError, match="damaged"):
        trust.load_trusted(bundle.path)
    assert record.read_text() == content


def test_a_record_that_cannot_be_written_stops_the_device(
    made: Callable[..., Bundle], tmp_path: Path, policy: Callable[..., None]
) -> None:
    (tmp_path / "file").touch()
    bundle = made(NEW)
    for record in (tmp_path / "file" / "newest.json", tmp_path):
        policy(allowed_signers=signers(tmp_path), remember_newest=str(record))
        with pytest.raises(TrustError, match=r"cannot be (read|written)"):
            trust.load_trusted(bundle.path)


@pytest.mark.parametrize(
    "body",
    [
        {"minimum_created": "2026"},
        {"minimum_created": 5},
        {"minimum_created": NEW},
        {"remember_newest": "newest.json", "allowed_signers": {"a": KEY}},
        {"remember_newest": 1, "allowed_signers": {"a": KEY}},
        {"remember_newest": "/newest.json"},
    ],
    ids=str,
)
def test_a_policy_about_time_is_never_half_understood(body: dict[str, Any], policy: Callable[..., None]) -> None:
    """Without signers anybody could write a newer time."""
    policy(**body)
    with pytest.raises(UsageError):
        trust.device_policy()


def test_exported_bundles_are_dated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = build(tmp_path / "bundle")
    assert created(bundle) == ""
    assert "2026" <= created(dated(bundle))[:4] <= "2999"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1780000000")
    assert created(dated(bundle)) == "2026-05-28T20:26:40Z"
