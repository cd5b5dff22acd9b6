"""``sonoedge benchmark`` and ``sonoedge report`` end to end, with real interpreters in real processes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoedge.benchmarks.measure import candidates as measuring
from sonoedge.benchmarks.records.runfile import read_runs
from sonoedge.edge_runtime.bundle.checksums import digests_text
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.edge_runtime.model.classifier import Classifier
from tests.helpers.commands import Sono, call
from tests.helpers.measured_runs import FILES


@pytest.fixture(scope="module")
def quick() -> Any:
    """A mode that takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(measuring.MODES, "rapid", (10, 0.0))
        yield


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory, quick: None, run_bundle: Path, tiny_run: Path, phantoms: Path
) -> Path:
    """The report of both artifacts of `run_bundle` against the Keras model."""
    out = tmp_path_factory.mktemp("reports") / "report"
    arguments = ["--bundle", run_bundle, "--model", tiny_run, "--data", phantoms, "--out", out, "--threads", 1]
    assert call("benchmark", *arguments, "--quiet") == 0
    return out


def test_what_is_written(report: Path) -> None:
    assert sorted(path.name for path in report.iterdir()) == FILES
    assert not list(report.parent.glob(".*partial"))
    (run,) = read_runs(report / "report.json")
    assert run.reference == "full Keras model" and run.data is not None and run.data.kind == "test"
    assert {c.name: c.error for c in run.candidates} == {
        "full Keras model": None, "tflite-int8": None, "tflite-fp32": None,
    }  # fmt: skip
    for c in run.candidates:
        assert c.timing is not None and len(c.timing.samples_ms) == 10 and c.timing.round_sizes == (2,) * 5
        assert c.init_ms and c.first_ms and c.base_bytes and c.peak_bytes and c.peak_bytes > c.base_bytes
    fp32 = run.candidate("tflite-fp32")
    assert set(fp32.stages_ms) == {"decode", "resize", "invoke", "head", "explain"}
    assert fp32.executed["xnnpack_partitions"] >= 1
    assert run.heatmap_reference == "full Keras model"
    assert run.gallery and set(run.gallery[0].overlays) == {"full Keras model", "tflite-int8"}


def test_the_explanation_is_judged_beside_the_accuracy(report: Path) -> None:
    """Against GradientTape on the Keras model: float32 maps are its maps, w8a8 ones are measurably not."""
    body = json.loads((report / "report.json").read_text())
    rows = {row["name"]: row["explanation"] for row in body["results"][0]}
    assert rows["full Keras model"] is None
    kept, small = rows["tflite-fp32"], rows["tflite-int8"]
    assert kept["cosine"]["low"] > 0.9999 and kept["verdict"] == "PASS" and kept["bound"] == 0.9999
    assert small["cosine"]["value"] < kept["cosine"]["value"] and small["bound"] == 0.98
    assert small["cosine"]["low"] <= small["cosine"]["value"] <= small["cosine"]["high"]
    (line,) = (
        x for x in csv.DictReader((report / "report.csv").read_text().splitlines()) if x["name"] == "tflite-int8"
    )
    assert (float(line["heatmap_cosine"]), line["verdict_explanation"]) == (
        small["cosine"]["value"],
        small["verdict"],
    )
    page, text = (report / "report.html").read_text(), (report / "report.md").read_text()
    assert "GradientTape on the full Keras model" in page and f"explanation: {small['verdict']}" in page
    assert f"{small['cosine']['value']:.4f} | {small['verdict']}" in text
    (run,) = read_runs(report / "report.json")
    own = run.candidate("tflite-int8")
    assert own.macs and own.int8_macs and 0 < own.int8_macs <= own.macs and own.escalated is None
    assert run.candidate("tflite-fp32").int8_macs == 0


def test_scores_are_those_of_predict(report: Path, run_bundle: Path, phantoms: Path) -> None:
    (run,) = read_runs(report / "report.json")
    assert run.data is not None
    from sonoedge.edge_runtime.files import sha256_file

    paths = {sha256_file(path)[:16]: path for path in find_images(phantoms)}
    classifier = Classifier(run_bundle, "tflite-int8", threads=1)
    own = [classifier(paths[image.digest], ungated=True).logit for image in run.data.images]
    np.testing.assert_allclose(run.candidate("tflite-int8").logits, own, atol=1e-5)
    full, fp32 = (np.array(run.candidate(name).logits) for name in ("full Keras model", "tflite-fp32"))
    np.testing.assert_allclose(full, fp32, atol=1e-3)


def test_numbers_agree_between_the_files(report: Path) -> None:
    body = json.loads((report / "report.json").read_text())
    lines = list(csv.DictReader((report / "report.csv").read_text().splitlines()))
    rows = body["results"][0]
    own = {candidate.name: candidate for run in read_runs(report / "report.json") for candidate in run.candidates}
    assert [line["name"] for line in lines] == [row["name"] for row in rows]
    page, text = (report / "report.html").read_text(), (report / "report.md").read_text()
    for line, row in zip(lines, rows, strict=True):
        assert float(line["p50_ms"]) == row["speed"]["p50_ms"]
        assert line["precision"] == own[line["name"]].precision, "of the file, not the metric"
        if row["scores"]:
            ppv = float(line["ppv"]) if line["ppv"] else None
            assert ppv == row["scores"]["metrics"]["precision"]["value"]
        assert row["speed"]["p99_ms"] is None and line["p99_ms"] == ""
        assert row["name"] in page and row["name"] in text
        if row["scores"]:
            assert float(line["accuracy"]) == row["scores"]["metrics"]["accuracy"]["value"]


def test_reports_are_merged_and_compared(report: Path, tmp_path: Path, sonoedge: Sono) -> None:
    source = report / "report.json"
    merged = sonoedge("report", source, source, "--out", tmp_path / "two", "--baseline", source)
    assert merged.code == 0 and "no regression in" in merged.out
    assert len(read_runs(tmp_path / "two" / "report.json")) == 2
    slow = json.loads(source.read_text())["runs"][0]
    for c in slow["candidates"]:
        if c["name"] == "tflite-int8":
            c["timing"]["samples_ms"] = [1e3 + ms for ms in c["timing"]["samples_ms"]]
    (tmp_path / "slow.json").write_text(json.dumps(slow))
    worse = sonoedge("report", tmp_path / "slow.json", "--out", tmp_path / "worse", "--baseline", source)
    assert worse.code == 10 and "regression: tflite-int8: p50 ms" in worse.out
    assert "Worse than the baseline" in (tmp_path / "worse" / "report.html").read_text()


def test_a_slowed_interpreter_is_caught(
    report: Path, run_bundle: Path, tiny_run: Path, phantoms: Path, tmp_path: Path, sonoedge: Sono,
    monkeypatch: pytest.MonkeyPatch, quick: None,
) -> None:  # fmt: skip
    """Not edited figures: the same files, measured again through an interpreter that is made to wait."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "import sonoedge.edge_runtime.backends.tflite as tflite\n"
        "run = tflite.TFLiteRunner.run\n"
        "def slow(self, inputs):\n    time.sleep(0.05)\n    return run(self, inputs)\n"
        "tflite.TFLiteRunner.run = slow\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    arguments = ["--bundle", run_bundle, "--data", phantoms, "--threads", 1, "--artifacts", "tflite-int8"]
    assert sonoedge("benchmark", *arguments, "--out", tmp_path / "slow", "--quiet").code == 0
    found = sonoedge(
        "report", tmp_path / "slow" / "report.json", "--baseline", report / "report.json", "--out", tmp_path / "out"
    )
    assert found.code == 10 and "regression: tflite-int8: p50 ms" in found.out


def test_a_failing_artifact_is_a_row(
    run_bundle: Path, tiny_run: Path, phantoms: Path, tmp_path: Path, sonoedge: Sono, quick: None
) -> None:
    broken = tmp_path / "bundle"
    shutil.copytree(run_bundle, broken)
    (broken / "tflite-int8" / "backbone.tflite").write_bytes(b"\x18\0\0\0TFL3" + bytes(200))
    (broken / "SHA256SUMS").write_text(digests_text(broken))
    assert load_bundle(broken)
    out = tmp_path / "report"
    arguments = ["--bundle", broken, "--data", phantoms, "--threads", 1, "--out", out, "--quiet"]
    result = sonoedge("benchmark", *arguments)
    assert result.code == 6 and "failed: " in result.out
    (run,) = read_runs(out / "report.json")
    assert run.candidate("tflite-int8").error and run.candidate("tflite-fp32").error is None
    assert run.candidate("tflite-fp32").timing is not None
    assert "tflite-int8 failed: " in (out / "report.html").read_text()


@pytest.mark.slow
def test_an_interrupted_benchmark_goes_on(
    run_bundle: Path, phantoms: Path, tmp_path: Path, sonoedge: Sono, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    arguments = [
        "--bundle",
        run_bundle,
        "--data",
        phantoms,
        "--threads",
        1,
        "--out",
        tmp_path / "report",
        "--quiet",
    ]
    opened: list[str] = []
    real = measuring.Worker

    def stops(spec: Any) -> Any:
        if len(opened) == 2:
            raise KeyboardInterrupt
        opened.append(spec.artifact)
        return real(spec)

    monkeypatch.setattr(measuring, "Worker", stops)
    first = sonoedge("benchmark", *arguments)
    assert first.code == 130 and not (tmp_path / "report").exists()
    monkeypatch.setattr(measuring, "Worker", lambda spec: (opened.append(spec.kind), real(spec))[1])
    opened.clear()
    second = sonoedge("benchmark", *arguments)
    assert second.code == 0 and "going on: 3 steps were finished before" in second.out
    assert opened == ["artifact"] * 2  # scores were kept: straight to the latency part


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--mode", "fast"], 2, "--mode must be one of rapid, quick, normal, none"),
        (["--threads", "0"], 2, "--threads must be at least 1"),
        (["--max-images", "1"], 2, "--max-images must be at least 2"),
        (["--artifacts", "tflite-int4"], 2, "has no artifact 'tflite-int4'"),
        (["--classes", "benign"], 3, "Two classes are scored"),
        (["--bundle", "nowhere"], 4, "No such bundle folder"),
    ],
)
def test_bad_arguments(
    arguments: list[str], code: int, message: str, run_bundle: Path, phantoms: Path, tmp_path: Path, sonoedge: Sono
) -> None:
    base = ["--bundle", run_bundle, "--data", phantoms, "--out", tmp_path / "report"]
    found = sonoedge("benchmark", *base, *arguments)
    assert (found.code, message in found.err) == (code, True), found.err
    assert not (tmp_path / "report").exists()


def test_without_latency(run_bundle: Path, phantoms: Path, tmp_path: Path, sonoedge: Sono) -> None:
    arguments = ["--bundle", run_bundle, "--data", phantoms, "--artifacts", "tflite-int8", "--mode", "none"]
    out = tmp_path / "report"
    found = sonoedge("benchmark", *arguments, "--max-images", 4, "--no-gallery", "--out", out, "--quiet")
    assert found.code == 0, found.err
    (run,) = read_runs(out / "report.json")
    (only,) = run.candidates
    assert run.protocol is None and only.timing is None and only.logits is not None and run.gallery == ()
    assert run.data is not None and len(run.data.images) == 4
    assert "<img" not in (out / "report.html").read_text()


def test_one_class_only(run_bundle: Path, phantoms: Path, tmp_path: Path, sonoedge: Sono) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantoms / "benign", data / "benign")
    (data / "malignant").mkdir()
    found = sonoedge("benchmark", "--bundle", run_bundle, "--data", data, "--out", tmp_path / "report")
    assert found.code == 3 and "malignant" in found.err and "Traceback" not in found.err


def test_data_is_needed(run_bundle: Path, tmp_path: Path, sonoedge: Sono) -> None:
    assert sonoedge("benchmark", "--bundle", run_bundle, "--out", tmp_path / "r").code == 2


def test_report_refuses(report: Path, tmp_path: Path, sonoedge: Sono) -> None:
    other = json.loads((report / "report.json").read_text())["runs"][0]
    other["machine"]["processor"] = "another"
    other["data"]["digest"] = "0" * 16
    (tmp_path / "other.json").write_text(json.dumps(other))
    found = sonoedge(
        "report", report / "report.json", "--baseline", tmp_path / "other.json", "--out", tmp_path / "r"
    )
    assert found.code == 3 and "Nothing in" in found.err
    other["schema_version"] = 1
    (tmp_path / "new.json").write_text(json.dumps(other))
    found = sonoedge("report", tmp_path / "new.json", "--out", tmp_path / "r")
    assert found.code == 3 and "schema_version 1; this version reads 2" in found.err
    found = sonoedge("report", report / "report.json", "--out", tmp_path / "r", "--max-slowdown", -1)
    assert found.code == 2
