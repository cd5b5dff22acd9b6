"""``export --max-ms --max-mb --max-ram``: what is left out, what comes first, what a refusal says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import LimitError, ModelError, UsageError
from sonoedge.export.bundle import limits as module
from sonoedge.export.bundle.limits import Cost, Limits, checked_limits, cost_of, keep_within
from tests.helpers.commands import Sono
from tests.helpers.places import VECTORS

COSTS = {
    "small": Cost(30.0, 5_000_000, 90_000_000),
    "fast": Cost(10.0, 20_000_000, 200_000_000),
    "large": Cost(20.0, 50_000_000, 400_000_000),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in COSTS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "backbone.tflite").touch()
    return tmp_path


def choose(folder: Path, **given: float) -> Any:
    artifacts: Any = [SimpleNamespace(name=name) for name in COSTS]
    return keep_within(Limits(**given), folder, artifacts, (8, 8), measure=lambda _, one, size: COSTS[one.name])


def names(choice: Any) -> list[str]:
    return [artifact.name for artifact in choice.artifacts]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"ms": 30.0}, ["fast", "small", "large"]),
        ({"ms": 29.9}, ["fast", "large"]),
        ({"mb": 20.0}, ["fast", "small"]),
        ({"ram": 100.0}, ["small"]),
        ({"ms": 25.0, "mb": 60.0, "ram": 500.0}, ["fast", "large"]),
        ({"ms": 15.0, "mb": 20.0, "ram": 200.0}, ["fast"]),
    ],
    ids=str,
)
def test_what_exceeds_a_limit_is_left_out_and_the_fastest_comes_first(
    given: dict[str, float], kept: list[str], folder: Path
) -> None:
    choice = choose(folder, **given)
    assert names(choice) == kept
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)
    assert choice.to_json()["limits"] == given
    assert set(choice.to_json()["costs"]) == set(COSTS)
    assert [line.split()[0] for line in choice.lines() if line.endswith("comes first")] == [kept[0]]


def test_a_refusal_names_the_nearest_and_what_it_misses(folder: Path) -> None:
    with pytest.raises(LimitError) as caught:
        choose(folder, ms=9.0, mb=4.0, ram=80.0)
    assert str(caught.value) == (
        "No artifact is within the limits on this machine. The nearest is small: 30 ms, 21 ms more than --max-ms 9 "
        "and 5 MB, 1 MB more than --max-mb 4 and 90 MB of memory, 10 MB of memory more than --max-ram 80."
    )
    assert len(list(folder.iterdir())) == 3  # the caller drops the whole folder
    with pytest.raises(LimitError, match=r"nearest is fast: 10 ms, 0\.01 ms more than --max-ms 9\.99\."):
        choose(folder, ms=9.99)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("option", ["--max-ms", "--max-mb", "--max-ram"])
def test_limits_that_are_none(option: str, value: float, tmp_path: Path, sonoedge: Sono) -> None:
    result = sonoedge("export", f"{option}={value}", "--model", tmp_path / "m.keras", "--out", tmp_path / "out")
    assert (result.code, f"{option} must be a positive number" in result.err) == (UsageError.exit_code, True)


def test_no_limits_and_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked_limits(None, None, None) is None
    assert checked_limits(None, 3.0, None) == Limits(mb=3.0)
    monkeypatch.setattr(module, "peak_bytes", lambda: None)
    with pytest.raises(UsageError, match="leave --max-ram out"):
        checked_limits(None, None, 3.0)


@pytest.mark.long
def test_a_cost_is_measured_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_bundle(VECTORS / "bundle")
    size = (bundle.input.height, bundle.input.width)
    artifact = bundle.artifact("tflite-fp32")
    cost = cost_of(bundle.path, artifact, size)
    assert cost.p50_ms > 0 and cost.size_bytes == artifact.size_bytes
    assert cost.peak_bytes is None or 10e6 < cost.peak_bytes < 1e9
    with pytest.raises(ModelError, match="tflite-fp32 cannot be measured"):
        cost_of(bundle.path / "tflite-fp32", artifact, size)
    monkeypatch.setattr(module, "__name__", "json")  # a child that cannot even start
    with pytest.raises(ModelError, match=r"cannot be measured \(exit code 1\): ImportError"):
        cost_of(bundle.path, artifact, size)


@pytest.mark.slow
def test_export_takes_the_artifact_or_refuses(
    small_keras: Path, tmp_path: Path, sonoedge: Sono, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"tflite-fp32": Cost(9.0, 10, 10_000_000), "openvino-fp32": Cost(3.0, 10, 30_000_000)}
    monkeypatch.setattr(module, "cost_of", lambda folder, artifact, size: made[artifact.name])
    arguments = ["--model", small_keras, "--labels", "benign,malignant", "--format", "tflite-fp32,openvino-fp32"]
    arguments += ["--out", tmp_path / "bundle", "--quiet"]
    refused = sonoedge("export", *arguments, "--max-ms", 2)
    assert (refused.code, (tmp_path / "bundle").exists()) == (LimitError.exit_code, False)
    assert "The nearest is openvino-fp32: 3 ms, 1 ms more than --max-ms 2." in refused.err
    both = sonoedge("export", *arguments, "--max-ms", 10, "--json")
    assert [one["name"] for one in json.loads(both.out)["artifacts"]] == ["openvino-fp32", "tflite-fp32"]
    one = sonoedge("export", *arguments, "--max-ram", 20)
    assert (one.code, "openvino-fp32   3 ms" in one.out, "left out" in one.out) == (0, True, True), one.err
    bundle = load_bundle(tmp_path / "bundle")
    assert [artifact.name for artifact in bundle.artifacts] == ["tflite-fp32"]
    assert bundle.provenance["limits"]["kept"] == ["tflite-fp32"]
    assert sonoedge("verify", bundle.path, "--in-process").code == 0
