"""A bundle with a cascade in ``benchmark``, ``stream`` and ``serve``: the same answers as ``predict``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sonoedge.benchmarks.measure import candidates as measuring
from sonoedge.benchmarks.measure.turns import in_turns, typical_ms
from sonoedge.benchmarks.records.runfile import Timing, read_runs
from sonoedge.benchmarks.retention.results import result
from sonoedge.edge_runtime.bundle.contract import CascadeSpec
from sonoedge.edge_runtime.bundle.manifest import load_bundle, write_manifest
from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.edge_runtime.model.cascade import Cascade, logit_threshold
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.serve.station import AnswerOptions, Station
from sonoedge.export.cascade.bundle import write_cascade
from tests.helpers.commands import Result

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, run_bundle: Path, phantoms: Path) -> Path:
    """Int8 before float32, with a margin that sends about half of the phantoms on."""
    full = load_bundle(run_bundle)
    first = Classifier(full, "tflite-int8", threads=1)
    cut = logit_threshold(full.artifact("tflite-fp32").threshold)
    logits = [prediction.logit for prediction in first.stream(find_images(phantoms), ungated=True)]  # type: ignore[union-attr]
    margin = float(np.median(np.abs(np.array(logits) - cut)))
    out = tmp_path_factory.mktemp("cascades") / "half"
    write_cascade(full, full, CascadeSpec("first", "tflite-int8", "tflite-fp32", 1.0, 0.0, margin, {}), out)
    return out


def test_turns() -> None:
    called: list[str] = []
    frame = in_turns(lambda: called.append("sure"), lambda: called.append("both"))
    for _ in range(5):
        frame()
    assert called == ["sure", "both", "sure", "both", "sure"]
    # Three samples, then two: each round begins with a frame of which the cheap model is sure.
    timing = Timing(2, (1.0, 9.0, 1.2, 1.1, 9.2), (3, 2))
    assert typical_ms(timing, 0.0) == pytest.approx(1.1)
    assert typical_ms(timing, 0.25) == pytest.approx(1.1 + 0.25 * 8.0)
    assert typical_ms(timing, None) == 1.2


@pytest.mark.slow
def test_the_benchmark_has_a_row_for_both_models_together(
    bundle: Path, tiny_run: Path, phantoms: Path, tmp_path: Path, sonoedge: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(measuring.MODES, "rapid", (10, 0.0))
    out = tmp_path / "report"
    arguments = ["--bundle", bundle, "--data", phantoms, "--model", tiny_run, "--out", out, "--threads", 1]
    found = sonoedge("benchmark", *arguments, "--artifacts", "cascade,tflite-fp32", "--no-peers", "--quiet")
    assert found.code == 0, found.err
    assert "The latency of cascade is an average" in found.out
    (run,) = read_runs(out / "report.json")
    own, row = run.candidate("cascade"), result(run).row("cascade")
    cascade = Cascade(load_bundle(bundle), threads=1)
    assert run.data is not None and own.logits is not None and row.cascade is not None and row.speed is not None
    digests = [image.digest for image in run.data.images]
    from sonoedge.edge_runtime.files import sha256_file

    predictions = {sha256_file(path)[:16]: cascade(path, ungated=True) for path in find_images(phantoms)}
    np.testing.assert_allclose(own.logits, [predictions[d].logit for d in digests], atol=1e-5)
    asked = [predictions[d].artifact == "tflite-fp32" for d in digests]
    assert own.escalated == np.mean(asked)
    cost = row.cascade
    assert cost.escalated.low <= np.mean(asked) <= cost.escalated.high
    assert cost.sure_ms and cost.worst_ms and cost.average_ms
    assert cost.sure_ms <= cost.average_ms <= cost.worst_ms and row.speed.typical_ms == cost.average_ms
    assert row.speed.p50_ms is None and row.explanation is not None and row.scores is not None
    full = run.candidate("tflite-fp32")
    assert own.macs and full.macs and own.macs == pytest.approx((1 + own.escalated) * full.macs)
    assert "share asked of both" in (out / "report.html").read_text()


def test_a_device_takes_the_share_from_the_bundle(
    bundle: Path, tmp_path: Path, sonoedge: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(measuring.MODES, "rapid", (5, 0.0))
    arguments = ["--device-run", bundle, "--artifacts", "cascade", "--threads", 1, "--quiet"]
    assert sonoedge("benchmark", *arguments, "--out", tmp_path / "run.json").code == 0
    assert read_runs(tmp_path / "run.json")[0].candidate("cascade").escalated == 1.0  # nothing was written down


def test_a_device_profile_can_choose_the_cascade(
    bundle: Path, phantoms: Path, tmp_path: Path, sonoedge: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(measuring.MODES, "rapid", (5, 0.0))
    out = tmp_path / "profile.json"
    found = sonoedge(
        "benchmark", "--autotune", "--bundle", bundle, "--artifacts", "cascade", "--out", out, "--quiet"
    )
    assert found.code == 0 and json.loads(out.read_text())["artifact"] == "cascade", found.err
    arguments = ["--bundle", bundle, "--profile", out, "--json", *find_images(phantoms)[::4]]
    answers = [json.loads(line) for line in sonoedge("predict", *arguments).out.splitlines()]
    assert {answer["artifact"] for answer in answers} == {"first/tflite-int8", "tflite-fp32"}


def test_no_cascade_to_measure(run_bundle: Path, phantoms: Path, tmp_path: Path, sonoedge: Command) -> None:
    arguments = ["--bundle", run_bundle, "--data", phantoms, "--artifacts", "cascade", "--out", tmp_path / "r"]
    found = sonoedge("benchmark", *arguments)
    assert found.code == 2 and "holds no cascade" in found.err


def test_a_stream_says_which_model_answered(
    bundle: Path, phantoms: Path, tmp_path: Path, sonoedge: Command
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, path in enumerate(find_images(phantoms)[::4]):
        shutil.copy(path, frames / f"{number:03}.png")
    arguments = ["--bundle", bundle, "--source", frames, "--json", "--annotated", tmp_path / "drawn"]
    found = sonoedge("stream", *arguments, "--quiet")
    assert found.code == 0, found.err
    lines = [json.loads(line) for line in found.out.splitlines()]
    assert {line["artifact"] for line in lines} == {"first/tflite-int8", "tflite-fp32"}
    cascade = Cascade(load_bundle(bundle))
    wanted = [cascade(path, ungated=True).logit for path in sorted(frames.iterdir())]
    np.testing.assert_allclose([line["logit"] for line in lines], wanted, atol=1e-4)
    assert len(list((tmp_path / "drawn").iterdir())) == len(lines)


def test_the_station_says_which_model_answered(bundle: Path, phantoms: Path) -> None:
    station = Station(bundle, None, threads=1)
    station.open()
    try:
        answers = [
            station.answer(path.read_bytes(), AnswerOptions(explain=True)) for path in find_images(phantoms)[::4]
        ]
        assert {answer["artifact"] for answer in answers} == {"first/tflite-int8", "tflite-fp32"}
        for answer in answers:
            shares = answer["explanation"]["logit_shares"]
            assert sum(shares.values()) == pytest.approx(answer["logit"], abs=1e-3)
            assert set(answer["explanation"]["maps"]) == {"fused", *shares} - {"bias"}
        assert station.describe()["artifact"] == "tflite-fp32"
    finally:
        station.close()


def test_a_gate_for_one_of_the_two_models_is_refused(
    bundle: Path, phantoms: Path, tmp_path: Path, sonoedge: Command
) -> None:
    """The cheap model's answers would go unguarded."""
    copy = shutil.copytree(bundle, tmp_path / "copy")
    gate = {"threshold.tflite-fp32": np.float32(9.0), "warning.tflite-fp32": np.float32(9.0)}
    loaded = load_bundle(copy)
    channels = sum(branch.channels for branch in loaded.branches)
    np.savez(
        copy / "domain.npz", branches=np.array([branch.name for branch in loaded.branches]), noise=np.float32(1.0),
        mean=np.zeros(channels, np.float32), inverse_std=np.ones(channels, np.float32),
        components=np.zeros((1, channels), np.float16), variances=np.ones(1, np.float32), **gate,
    )  # fmt: skip
    write_manifest(loaded)
    found = sonoedge("stream", "--bundle", copy, "--source", phantoms / "benign", "--json")
    assert found.code == 4 and "the cheap model has no gate" in found.err and "--artifact tflite-fp32" in found.err
    alone = ["--artifact", "tflite-fp32", "--max-frames", 1]
    assert sonoedge("stream", "--bundle", copy, "--source", phantoms / "benign", "--json", *alone).code == 0
