"""The child process: what a hostile or crashing model file cannot do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.device.sandbox import replay_isolated


def test_a_crashing_model_file_becomes_a_sentence(
    run_bundle: Path, tmp_path: Path, sonoedge: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child dies by a signal; the caller lives and says so."""
    bundle = load_bundle(run_bundle)
    fake = tmp_path / "lib"
    (fake / "ai_edge_litert").mkdir(parents=True)
    (fake / "ai_edge_litert" / "__init__.py").write_text("")
    for name, expected in (("SIGSEGV", "crashed on this file"), ("SIGILL", "this processor lacks")):
        code = f"import os, signal\nos.kill(os.getpid(), signal.{name})\n"
        (fake / "ai_edge_litert" / "interpreter.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(fake))
        result = sonoedge("verify", bundle.path, "--artifact", "tflite-fp32")
        assert result.code == 5
        assert "FAILED: the interpreter" in result.out and expected in result.out and name in result.out


def test_limits_of_the_child(run_bundle: Path) -> None:
    bundle = load_bundle(run_bundle)
    assert "within 0.01 s" in replay_isolated(bundle, "tflite-fp32", seconds=0.01).failure
    starved = replay_isolated(bundle, "tflite-fp32", memory_bytes=64 << 20)
    assert starved.failure and not starved.passed
    assert replay_isolated(bundle, "tflite-fp32").passed


@pytest.mark.parametrize("limit", [("--timeout", "nan"), ("--timeout", "0"), ("--threads", "0")])
def test_a_limit_that_is_none_is_one_sentence(run_bundle: Path, sonoedge: Callable, limit: tuple[str, str]) -> None:
    result = sonoedge("verify", run_bundle, *limit)
    assert result.code == 2
    assert "must be more than 0 s, and --threads at least 1" in result.err


def test_the_child_runs_our_code_only(run_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of our package's name where the command is called is not imported."""
    (tmp_path / "edge_runtime").mkdir()
    (tmp_path / "edge_runtime" / "__init__.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    assert replay_isolated(load_bundle(run_bundle), "tflite-fp32").passed
