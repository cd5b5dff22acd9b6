"""Exit codes and messages of the command line."""

from __future__ import annotations

import argparse
import errno
import inspect
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sonoedge import edge_runtime
from sonoedge.edge_runtime import cli, errors
from sonoedge.edge_runtime.device.source import source_digest
from tests.helpers.places import ROOT


@pytest.fixture(autouse=True)
def keep_signal_handler() -> Iterator[None]:
    """Commands install a SIGTERM handler; the test process keeps its own."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[argparse.Namespace], int]], None]:
    """Adds a command ``fake`` with one option that runs a function."""

    def add(run: Callable[[argparse.Namespace], int]) -> None:
        module = ModuleType("fake_command")
        module.add_arguments = lambda parser: parser.add_argument("--number", type=int, default=0)
        module.run = run
        monkeypatch.setitem(sys.modules, "fake_command", module)
        monkeypatch.setitem(cli.COMMANDS, "fake", ("fake_command", "does what a test says"))

    return add


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(_: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize("argument", ["-h", "--help"])
def test_help_lists_every_command(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([argument]) == 0
    output = capsys.readouterr().out
    assert output.startswith("usage: sonoedge COMMAND")
    assert "not a medical device" in output
    for name, (_, summary) in cli.COMMANDS.items():
        assert f"  {name} " in output
        assert summary in output
    groups = [line.partition(":")[0] for line in output.splitlines() if line[:1].islower() and ": " in line]
    assert groups == ["usage", "start", "model", "evidence", "device"]


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: sonoedge COMMAND" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sonoedge {edge_runtime.__version__} (source {source_digest()[:16]})\n"


def test_arguments_default_to_those_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sonoedge", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out.startswith("sonoedge ")


@pytest.mark.parametrize("code", [0, 3])
def test_exit_code_of_a_command(code: int, register: Callable) -> None:
    seen = []

    def run(args: argparse.Namespace) -> int:
        seen.append(args.number)
        return code

    register(run)
    assert cli.main(["fake", "--number", "7"]) == code
    assert seen == [7]


def test_help_of_a_command(register: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    register(raising(AssertionError("help does not run the command")))
    with pytest.raises(SystemExit) as caught:
        cli.main(["fake", "--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith("usage: sonoedge fake [-h] [--number NUMBER]")
    assert "Does what a test says." in output


@pytest.mark.parametrize("arguments", [["--number", "x"], ["--unknown"], ["extra"]])
def test_wrong_arguments(arguments: list[str], register: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    register(raising(AssertionError("not with wrong arguments")))
    with pytest.raises(SystemExit) as caught:
        cli.main(["fake", *arguments])
    assert caught.value.code == 2
    assert "sonoedge fake: error:" in capsys.readouterr().err


EXPECTED = [
    (errors.SonoEdgeError("text"), 1, "text"),
    (errors.UsageError("text"), 2, "text"),
    (errors.DataError("text"), 3, "text"),
    (errors.ImageError("text"), 3, "text"),
    (errors.BundleError("text"), 4, "text"),
    (errors.VerificationError("text"), 5, "text"),
    (errors.ModelError("text"), 6, "text"),
    (errors.MissingExtraError("openvino", "openvino"), 7, 'pip install ".[openvino]"'),
    (errors.AccuracyError("text"), 8, "text"),
    (errors.TrustError("text"), 9, "text"),
    (errors.LimitError("text"), 12, "text"),
    (errors.FrameNeededError("text", 2), 3, "text"),
    (OSError(errno.ENOSPC, "No space left on device", "out.bin"), 1, "No space left on device: out.bin"),
    (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
    (OSError("odd"), 1, "odd"),
    (PermissionError(errno.EACCES, "Permission denied", "secret"), 1, "Permission denied: secret"),
    (MemoryError(), 1, "out of memory"),
    (ModuleNotFoundError("No module named 'keras'", name="keras"), 7, 'pip install ".[train]"'),
    (ModuleNotFoundError("No module named 'keras.src'", name="keras.src"), 7, "keras is not installed"),
    (ModuleNotFoundError("No module named 'nncf'", name="nncf"), 7, 'pip install ".[export]"'),
]


@pytest.mark.parametrize(("error", "code", "message"), EXPECTED, ids=lambda value: type(value).__name__)
def test_expected_errors_are_one_line_and_an_exit_code(
    error: Exception, code: int, message: str, register: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    register(raising(error))
    assert cli.main(["fake"]) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert message in output.err


def test_every_error_has_its_own_exit_code() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert {kind for kind in kinds if issubclass(kind, errors.SonoEdgeError)} == {
        type(error) for error, _, _ in EXPECTED if isinstance(error, errors.SonoEdgeError)
    }
    codes = {kind.__name__: kind.exit_code for kind in kinds if not issubclass(kind, errors.ImageError)}
    assert sorted(codes.values()) == [*range(1, 10), 12]  # 10 and 11 are answers, not errors


def test_interrupt(register: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    register(raising(KeyboardInterrupt()))
    assert cli.main(["fake"]) == 130
    assert capsys.readouterr().err.startswith("interrupted")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_sigterm_is_an_interrupt(register: Callable) -> None:
    cleaned = []

    def run(_: argparse.Namespace) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            cleaned.append(True)
        return 0

    register(run)
    assert cli.main(["fake"]) == 130
    assert cleaned == [True]


@pytest.mark.parametrize("name", ["surprise", None])
def test_an_unknown_missing_module_is_a_bug_and_shows_its_traceback(name: str | None, register: Callable) -> None:
    register(raising(ModuleNotFoundError("No module named 'surprise'", name=name)))
    with pytest.raises(ModuleNotFoundError, match="surprise"):
        cli.main(["fake"])


def test_unexpected_errors_are_not_hidden(register: Callable) -> None:
    register(raising(ZeroDivisionError("bug")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["fake"])


def test_missing_extra_while_a_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "needs_openvino_command.py").write_text("import openvino\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(cli.COMMANDS, "needy", ("needs_openvino_command", "needs an extra"))
    assert cli.main(["needy", "--help"]) == 7
    assert 'pip install ".[openvino]"' in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_closed_pipe_is_silent() -> None:
    code = """
import sys, types
from sonoedge.edge_runtime import cli
module = types.ModuleType("fake_command")
module.add_arguments = lambda parser: None
module.run = lambda args: [print("x" * 1000, flush=True) for _ in range(10_000)] and 0
sys.modules["fake_command"] = module
cli.COMMANDS["fake"] = ("fake_command", "prints")
sys.exit(cli.main(["fake"]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    message = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert message == b""


def test_the_exit_code_reaches_the_shell() -> None:
    root = ROOT
    result = subprocess.run(
        [sys.executable, "-m", "sonoedge.edge_runtime", "nonsense"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "unknown command 'nonsense'" in result.stderr


@pytest.mark.parametrize(
    "module",
    ["tensorflow", "keras", "sklearn", "scipy", "matplotlib", "h5py", "tqdm", "litert_quantizer", "nncf", "onnx",
     "openvino", "onnxruntime", "pydicom", "starlette", "uvicorn", "av", "jinja2", "msgspec", "rich", "shtab",
     "yaml", "lime", "shap", "skimage"],
)  # fmt: skip
def test_the_extra_named_in_the_message_is_declared(
    module: str, register: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    register(raising(ModuleNotFoundError(f"No module named {module!r}", name=module)))
    assert cli.main(["fake"]) == 7
    extra = capsys.readouterr().err.partition('".[')[2].partition("]")[0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in project["optional-dependencies"]
