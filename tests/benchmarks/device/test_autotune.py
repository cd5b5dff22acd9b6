"""``benchmark --autotune`` and ``--profile``: measured, used by the commands, refused where it does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sonoedge.benchmarks.device.autotune import choose, why_refused
from sonoedge.benchmarks.measure import candidates as measuring
from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle, write_manifest
from sonoedge.edge_runtime.device.profile import Tried, read_profile, write_profile
from sonoedge.edge_runtime.errors import ModelError
from sonoedge.edge_runtime.imaging.image import find_images
from tests.helpers.commands import Result

Sono = Callable[..., Result]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory, float_bundle: Path, on_device: Callable[..., Any]) -> Path:
    """Measured on this machine in an interpreter, and in workers, that refuse every package of the workstation."""
    folder = tmp_path_factory.mktemp("profiles")
    out = folder / "profile.json"
    arguments = ["benchmark", "--autotune", "--bundle", str(float_bundle), "--out", str(out)]
    done = on_device(folder, *arguments)
    assert done.returncode == 0, done.stderr
    assert "chosen" in done.stdout and "Research use only" in done.stdout
    assert not list(folder.glob(".*partial"))
    return out


def test_the_profile_holds_what_was_measured(profile: Path, float_bundle: Path) -> None:
    found = read_profile(profile)
    assert found.bundle_digest == bundle_digest(float_bundle)
    assert {t.artifact for t in found.measured} == {"tflite-fp32", "openvino-fp32"}
    (winner,) = (t for t in found.measured if t.note == "chosen")
    assert (winner.artifact, winner.threads, winner.typical_ms) == (found.artifact, found.threads, found.typical_ms)
    assert all((t.typical_ms is None) == bool(t.note and t.note != "chosen") for t in found.measured)
    assert found.reason.startswith(f"{found.artifact} with {found.threads} thread")
    again = profile.with_name("again.json")
    write_profile(found, again)
    assert again.read_text() == profile.read_text()


def test_the_commands_take_its_choice(
    profile: Path,
    float_bundle: Path,
    phantoms: Path,
    tmp_path: Path,
    sonoedge: Sono,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = replace(read_profile(profile), artifact="openvino-fp32", threads=1)
    write_profile(other, tmp_path / "p.json")
    image = find_images(phantoms)[0]
    arguments = ["--bundle", float_bundle, "--profile", tmp_path / "p.json"]
    threads: list[int | None] = []
    from sonoedge.edge_runtime.model import classifier

    real = classifier.open_model
    monkeypatch.setattr(classifier, "open_model", lambda *a, threads: (seen(threads), real(*a, threads=threads))[1])

    def seen(count: int | None) -> None:
        threads.append(count)

    predicted = sonoedge("predict", *arguments, "--json", image)
    assert predicted.code == 0 and json.loads(predicted.out)["artifact"] == "openvino-fp32"
    assert threads == [1, 1]
    streamed = sonoedge("stream", *arguments, "--json", "--max-frames", 1, "--source", phantoms / "benign")
    assert json.loads(streamed.out)["artifact"] == "openvino-fp32"
    explained = sonoedge("explain", *arguments, "--json", "--out", tmp_path / "heat", image)
    assert json.loads(explained.out.splitlines()[0])["artifact"] == "openvino-fp32"


def test_a_profile_of_another_bundle_or_machine(
    profile: Path, float_bundle: Path, run_bundle: Path, phantoms: Path, tmp_path: Path, sonoedge: Sono
) -> None:
    image = find_images(phantoms)[0]
    for command in ("predict", "explain"):
        found = sonoedge(command, "--bundle", run_bundle, "--profile", profile, image)
        assert found.code == 2 and "was measured for another bundle" in found.err and found.err.count("\n") == 1
    served = sonoedge("serve", "--bundle", run_bundle, "--profile", profile, "--port", 0)
    assert served.code == 2 and "was measured for another bundle" in served.err
    write_profile(replace(read_profile(profile), cores=77), tmp_path / "moved.json")
    found = sonoedge("predict", "--bundle", float_bundle, "--profile", tmp_path / "moved.json", image)
    assert found.code == 0 and "measured on another machine" in found.err
    for option in (["--threads", 1], ["--artifact", "tflite-fp32"]):
        found = sonoedge("predict", "--bundle", float_bundle, "--profile", profile, *option, image)
        assert found.code == 2 and "leave --artifact and --threads out" in found.err
    found = sonoedge("predict", "--bundle", tmp_path / "none", "--profile", profile, image)
    assert found.code == 4 and "No such bundle" in found.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: "no json", "is not a device profile"),
        (lambda body: [], "is not a device profile"),
        (lambda body: {**body, "kind": "other"}, "its kind is not"),
        (lambda body: {**body, "schema_version": 2}, "schema_version 2; this version reads 1. Update sonoedge."),
        (
            lambda body: {**body, "schema_version": 0},
            "this version reads 1. Make it again: sonoedge benchmark --auto",
        ),
        (lambda body: {**body, "thread": 1}, "has unknown keys: thread (is threads meant?)"),
        (lambda body: {k: v for k, v in body.items() if k != "artifact"}, "lacks: artifact"),
        (lambda body: {**body, "measured": [{"x": 1}]}, ".measured[0] has unknown keys: x."),
        (
            lambda body: {**body, "measured": [{**body["measured"][0], "note": 1}]},
            "[0].note must be of type string",
        ),
        (lambda body: {**body, "measured": 7}, ".measured must be a list"),
        (lambda body: {**body, "typical_ms": "fast"}, ".typical_ms must be of type number"),
        (lambda body: {**body, "threads": True}, ".threads must be of type integer"),
        (lambda body: {**body, "threads": -1}, "threads must be 1 to"),
        (lambda body: {**body, "threads": 10**9}, "threads must be 1 to"),
        (lambda body: {**body, "artifact": None}, ".artifact must be of type string"),
    ],
)
def test_files_that_are_no_profile(
    change: Callable[[Any], Any], message: str, profile: Path, float_bundle: Path, tmp_path: Path, sonoedge: Sono
) -> None:
    changed = change(json.loads(profile.read_text()))
    bad = tmp_path / "bad.json"
    bad.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    found = sonoedge("predict", "--bundle", float_bundle, "--profile", bad, "x.png")
    assert found.code == 3 and message in found.err, found.err
    assert sonoedge("predict", "--bundle", float_bundle, "--profile", tmp_path / "none.json", "x.png").code == 3


def tried(artifact: str, threads: int, ms: float, noise: float = 0.1) -> Tried:
    return Tried(artifact, threads, ms, ms - noise, ms + noise, "")


def test_the_choice() -> None:
    sizes = {"big": 90, "small": 30}
    fast, slow = tried("big", 4, 10.0), tried("small", 4, 20.0)
    assert choose([slow, fast], sizes)[0] is fast
    # As fast within the noise: fewer threads first, then the smaller file.
    fewer = tried("big", 2, 10.1)
    winner, reason = choose([slow, fast, fewer, tried("small", 4, 10.05)], sizes)
    assert winner is fewer and "within the noise of the fastest (big, 4 threads, 10 ms)" in reason
    assert "next is small with 4, 20 ms" in reason
    assert choose([fast, tried("small", 4, 10.05)], sizes)[0].artifact == "small"
    with pytest.raises(ModelError, match="broken"):
        choose([Tried("x", 1, None, None, None, "failed: broken")], sizes)


def test_only_accepted_accuracy_takes_part(float_bundle: Path, tmp_path: Path, sonoedge: Sono) -> None:
    def bundle(precision: str, metrics: dict[str, Any]) -> Bundle:
        artifact = replace(load_bundle(float_bundle).artifacts[0], precision=precision, metrics=metrics)
        return replace(load_bundle(float_bundle), artifacts=(artifact,))

    name = "tflite-fp32"
    assert why_refused(bundle("fp16", {}), name) == ""
    assert why_refused(bundle("w8a8", {"validation": {"verdict": "INCONCLUSIVE"}}), name) == ""
    assert why_refused(bundle("w8a8", {"validation": {"verdict": "PASS"}}), name) == ""
    assert "FAIL" in why_refused(bundle("w8a8", {"validation": {"verdict": "FAIL"}}), name)
    assert "never compared" in why_refused(bundle("dynamic", {}), name)


def test_bad_arguments(float_bundle: Path, phantoms: Path, tmp_path: Path, sonoedge: Sono) -> None:
    base = ["benchmark", "--autotune", "--bundle", float_bundle, "--out", tmp_path / "p.json", "--quiet"]
    for extra, code, message in (
        (["--data", phantoms], 2, "leave --data out"),
        (["--threads", 2], 2, "leave --threads out"),
        (["--mode", "none"], 2, "measures latency"),
        (["--mode", "fast"], 2, "--mode must be one of"),
        (["--artifacts", "tflite-int4"], 2, "has no artifact"),
        (["--bundle", tmp_path / "none"], 4, "No such bundle"),
    ):
        found = sonoedge(*base, *extra)
        assert (found.code, message in found.err) == (code, True), found.err
    assert sonoedge("benchmark", "--autotune", "--bundle", float_bundle, "--out", tmp_path, "--quiet").code == 2
    assert not (tmp_path / "p.json").exists()


def test_a_file_that_the_guard_refused_is_listed_and_not_timed(
    float_bundle: Path, tmp_path: Path, sonoedge: Sono, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(measuring.MODES, "rapid", (5, 0.0))
    copy = shutil.copytree(float_bundle, tmp_path / "bundle")
    loaded = load_bundle(copy)
    failed = replace(loaded.artifacts[0], precision="w8a8", metrics={"validation": {"verdict": "FAIL"}})
    write_manifest(replace(loaded, artifacts=(failed, *loaded.artifacts[1:])))
    base = ["benchmark", "--autotune", "--bundle", copy, "--out", tmp_path / "p.json", "--quiet"]
    found = sonoedge(*base)
    assert found.code == 0, found.err
    profile = read_profile(tmp_path / "p.json")
    assert profile.artifact == "openvino-fp32"
    assert [(t.artifact, t.note) for t in profile.measured if t.threads == 0] == [
        ("tflite-fp32", "the accuracy guard said FAIL")
    ]
    alone = sonoedge(*base, "--artifacts", "tflite-fp32")
    assert alone.code == 2 and "the accuracy guard said FAIL" in alone.err
