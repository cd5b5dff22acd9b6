"""`sonoedge.benchmarks` from Python: what is public, typed results, and commands that are thin layers over it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

import sonoedge.benchmarks
from sonoedge.benchmarks import benchmark, write_report
from sonoedge.edge_runtime.errors import DataError, ModelError, UsageError
from tests.helpers.commands import differences
from tests.helpers.measured_runs import FILES


@pytest.mark.parametrize(
    ("command", "function", "own"),
    [
        ("benchmark", "benchmark", ("device_run", "autotune", "sustained")),
        ("report", "write_report", ()),
        ("cross-validate", "cross_validate", ()),
        ("benchmark-explain", "benchmark_explain", ()),
    ],
)
def test_the_commands_are_thin_layers(command: str, function: str, own: tuple[str, ...]) -> None:
    assert differences(command, getattr(sonoedge.benchmarks, function), *own) == {}


def test_public_names() -> None:
    assert sonoedge.benchmarks.__all__ == sorted(sonoedge.benchmarks.__all__)
    for name in sonoedge.benchmarks.__all__:
        value = getattr(sonoedge.benchmarks, name)
        assert not inspect.ismodule(value), f"{name} is also a sub-package: which one is meant depends on the order"
        assert value.__doc__ and not value.__doc__.startswith(f"{name}("), name
        assert name in dir(sonoedge.benchmarks)


@pytest.fixture(scope="module")
def small_report(
    tmp_path_factory: pytest.TempPathFactory, float_bundle: Path, phantoms: Path
) -> sonoedge.benchmarks.BenchmarkReport:
    """Two float files against each other, without latency."""
    out = tmp_path_factory.mktemp("reports") / "report"
    return benchmark(float_bundle, str(phantoms), out=out, threads=1, mode="none", max_images=6, gallery=False)


def test_the_report_is_typed(small_report: sonoedge.benchmarks.BenchmarkReport) -> None:
    report = small_report
    assert sorted(path.name for path in Path(report).iterdir()) == FILES
    first, second = report.rows
    assert (first.name, first.kind, first.images) == ("tflite-fp32", "artifact", 6)
    assert first.accuracy is not None and first.accuracy.low <= first.accuracy.value <= first.accuracy.high
    assert first.decisions_changed is None, "it is the reference itself"
    assert second is report.row("openvino-fp32")
    assert second.decisions_changed == 0 and second.verdict in {"PASS", "INCONCLUSIVE"}
    assert second.explanation == "PASS" and second.p50_ms is None and second.error is None
    assert second.headline.startswith("keeps 100")
    assert report.failed == () and report.regressions == ()
    assert json.loads(report.json.read_text()) == json.loads(json.dumps(report.to_json()))
    assert report.html.is_file() and report.markdown.is_file()
    assert len(repr(report)) < 3000, "raw figures are not for the eye"
    with pytest.raises(KeyError):
        report.row("tflite-int4")


def test_reports_are_merged(small_report: sonoedge.benchmarks.BenchmarkReport, tmp_path: Path) -> None:
    """From what `benchmark` returned, its folder, or the file in it."""
    report = small_report
    merged = write_report([report, report.path, report.json], out=tmp_path / "all", baseline=report)
    assert len(merged.results) == 3 and len(merged.rows) == 3 * len(report.rows)
    assert merged.comparison is not None and merged.comparison.compared and merged.regressions == ()
    worse = json.loads(report.json.read_text())["runs"][0]
    for candidate in worse["candidates"]:
        candidate["size_bytes"] *= 2
    (tmp_path / "worse.json").write_text(json.dumps(worse))
    found = write_report(tmp_path / "worse.json", out=tmp_path / "worse", baseline=report.path)
    assert [line.partition(" MB")[0].partition(":")[0] for line in found.regressions] == [
        r.name for r in report.rows
    ]


def test_what_python_can_get_wrong(float_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data DIR is needed"):
        benchmark(float_bundle, out=tmp_path / "r")
    with pytest.raises(UsageError, match="--mode must be one of"):
        benchmark(float_bundle, tmp_path, out=tmp_path / "r", mode="fast")
    with pytest.raises(ModelError, match="No such run folder"):
        benchmark(float_bundle, tmp_path / "not even looked at", out=tmp_path / "r", model=tmp_path / "run")
    with pytest.raises(DataError, match="No such"):
        write_report(tmp_path / "nowhere.json", out=tmp_path / "r")
    with pytest.raises(UsageError, match="cannot be negative"):
        write_report(tmp_path, out=tmp_path / "r", max_loss=-1)
    assert not (tmp_path / "r").exists()
