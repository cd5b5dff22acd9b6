"""What compilers say of a file: figures, operators left to the CPU, a broken compile, no compiler."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from sonoedge.edge_runtime.errors import MissingExtraError, ModelError
from sonoedge.export.targets.compilers import compiled_for, require_compiler
from sonoedge.export.targets.division import without_division
from sonoedge.export.targets.table import TARGETS
from tests.export.targets.lite_graphs import lesion_graph, quantized

U55 = TARGETS["ethos-u55"]
EDGE_TPU = """#!/bin/sh
echo "Edge TPU Compiler version 16.0.384591198"
echo "Operator                       Count      Status"
echo "CONV_2D                        4          Mapped to Edge TPU"
{more}
exit {code}
"""


def needs_vela() -> None:
    pytest.importorskip("ethosu", reason="needs the extra ethos-u")


@pytest.fixture(scope="module")
def integer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("integer") / "backbone.tflite"
    path.write_bytes(quantized(without_division(lesion_graph())))
    return path


def test_all_of_it_is_on_the_npu_and_what_that_costs(integer_file: Path, tmp_path: Path) -> None:
    needs_vela()
    report = compiled_for(integer_file, U55, tmp_path)
    assert report["operators_on_npu"] == report["operators"] > 10
    assert 0 < report["cycles_npu"] <= report["cycles_total"]
    assert report["latency_ms"] == pytest.approx(
        1e3 * report["cycles_total"] / report["clock_hz"], rel=0.05, abs=1e-3
    )
    assert set(report["memory_bytes"]) == {"sram", "off_chip_flash"}
    assert f"{report['operators']} of {report['operators']} operators on ethos-u55-128" in report["text"]
    assert report["command"].startswith("vela backbone.tflite --accelerator-config ethos-u55-128")


def test_what_is_left_to_the_cpu_fails_the_target(tmp_path: Path) -> None:
    """The same file with its division, which the operator check would have refused."""
    needs_vela()
    path = tmp_path / "backbone.tflite"
    path.write_bytes(quantized(lesion_graph()))
    with pytest.raises(ModelError, match=r"leaves 1 operators to the CPU.*ethos-u55-128.*DIV in the layer divided"):
        compiled_for(path, U55, tmp_path)
    assert compiled_for(path, TARGETS["ethos-u85"], tmp_path)["accelerator"] == "ethos-u85-256"


def test_a_broken_compile_is_a_sentence(tmp_path: Path) -> None:
    needs_vela()
    path = tmp_path / "backbone.tflite"
    path.write_bytes(b"no model")
    with pytest.raises(
        ModelError, match=r"^Vela cannot compile backbone.tflite for ethos-u55-128 \(exit code \d+\): \w"
    ):
        compiled_for(path, U55, tmp_path)


def test_a_missing_compiler_of_arm_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'Vela is not installed. .*pip install "\.\[ethos-u\]"'):
        require_compiler(U55)
    require_compiler(TARGETS["edgetpu"])  # its operator check runs anyway


def test_a_missing_compiler_of_coral_is_said_and_the_file_stays(
    integer_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    report = compiled_for(integer_file, TARGETS["edgetpu"], tmp_path)
    assert report["compiler"] is None
    assert "not on PATH" in report["text"] and "apt-get install edgetpu-compiler" in report["text"]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ("", 0, ""),
        (
            'echo "RSQRT   1   Operation is working on an unsupported data type"',
            0,
            "to the CPU: 1 RSQRT .Operation is",
        ),
        ('echo "Internal compiler error. Aborting!" >&2', 1, r"exit code 1\): Internal compiler error"),
    ],
)
def test_corals_compiler_is_run_if_it_is_there(
    integer_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, code: int, words: str
) -> None:
    compiler = tmp_path / "edgetpu_compiler"
    compiler.write_text(EDGE_TPU.format(more=more, code=code))
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if words:
        with pytest.raises(ModelError, match=words):
            compiled_for(integer_file, TARGETS["edgetpu"], tmp_path)
    else:
        report = compiled_for(integer_file, TARGETS["edgetpu"], tmp_path)
        assert (report["operators_on_npu"], report["operators"]) == (4, 4)
