"""Peers are made from the run's own model, measured in the same run, and missing ones do not stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from sonoedge.benchmarks.measure import candidates as measuring
from sonoedge.benchmarks.measure import peers
from sonoedge.benchmarks.records.runfile import read_runs
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.train.evaluation.run_folder import open_run
from tests.helpers.commands import Result, call


def bar(items: Iterable[Any], _: str) -> Iterable[Any]:
    return items


def test_a_peer_that_cannot_be_made_is_listed(
    run_bundle: Path, tiny_run: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fails(*_: object) -> None:
        raise RuntimeError("no such operator\nand a long trace")

    monkeypatch.setattr(peers, "_converter", fails)
    bundle = load_bundle(run_bundle)
    (found,) = peers.peers(open_run(tiny_run), bundle, ["tflite-fp32"], phantoms, 1, bar)
    assert (found.kind, found.error) == ("peer", "could not be made: no such operator")
    (gone,) = peers.peers(open_run(tiny_run), bundle, ["tflite-fp32"], tmp_path / "gone", 1, bar)
    assert gone.error is not None and gone.error.startswith("no calibration images: ")


@pytest.mark.slow
def test_every_peer(
    tiny_run: Path, phantoms: Path, tmp_path: Path, sonoedge: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(measuring.MODES, "rapid", (10, 0.0))
    formats, out = "tflite-fp32,openvino-fp32,onnx-fp32", tmp_path / "report"
    assert call("export", "--model", tiny_run, "--format", formats, "--out", tmp_path / "bundle", "--quiet") == 0
    arguments = ["--bundle", tmp_path / "bundle", "--model", tiny_run, "--data", phantoms, "--out", out, "--quiet"]
    assert sonoedge("benchmark", *arguments, "--peers").code == 0
    (run,) = read_runs(out / "report.json")
    assert {c.name: c.error for c in run.candidates if c.kind == "peer"} == {
        "TFLite converter, int8": None,
        "ONNX Runtime, int8": None,
    }
    for name in ("TFLite converter, int8", "ONNX Runtime, int8", "openvino-fp32, benchmark_app"):
        assert run.candidate(name).timing is not None
    app = run.candidate("openvino-fp32, benchmark_app").timing
    assert app is not None and app.round_sizes == (1,) * measuring.ROUNDS
    assert run.candidate("ONNX Runtime, int8").size_bytes < 0.5 * run.candidate("onnx-fp32, bare").size_bytes
    assert len(list((tmp_path / "cache" / "sonoedge" / "peers").iterdir())) == 2
