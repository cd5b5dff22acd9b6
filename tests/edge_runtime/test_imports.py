"""What an import loads, and the public surface of the package."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from sonoedge import edge_runtime
from tests.helpers.places import ROOT

HEAVY = (
    "tensorflow", "keras", "sklearn", "scipy", "matplotlib", "onnx", "onnxruntime", "openvino", "ai_edge_litert",
    "tflite_runtime", "tqdm", "pydicom", "h5py", "nncf", "starlette", "uvicorn", "av", "lime", "shap", "skimage",
)  # fmt: skip


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = ROOT
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    "module", ["sonoedge.edge_runtime", "sonoedge.edge_runtime.cli", "sonoedge.edge_runtime.commands.predict"]
)
def test_import_is_light(module: str) -> None:
    result = python("import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)", module)
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.split()
    assert module in loaded
    assert not set(HEAVY) & set(loaded)


AS_MODULE = """
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", *sys.modules))
name = sys.argv[1]
sys.argv = sys.argv[1:]
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        (["edge_runtime", "--help"], "usage: sonoedge COMMAND"),
        (["edge_runtime", "predict", "--help"], "usage: sonoedge predict"),
        (["edge_runtime", "verify", "--help"], "usage: sonoedge verify"),
        (["train", "--help"], "usage: sonoedge train"),
        (["export", "--help"], "usage: sonoedge export"),
    ],
    ids=["overview", "predict", "verify", "train", "export"],
)
def test_help_as_a_module_is_light(arguments: list[str], usage: str) -> None:
    result = python(AS_MODULE, *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(usage)
    loaded = result.stdout.partition("loaded:")[2].split()
    assert "sonoedge.edge_runtime.cli" in loaded
    assert not {"tensorflow", "keras"} & set(loaded)


def test_public_names_exist_and_are_sorted() -> None:
    assert edge_runtime.__all__ == sorted(edge_runtime.__all__)
    assert len(set(edge_runtime.__all__)) == len(edge_runtime.__all__)
    public = {name for name in dir(edge_runtime) if not name.startswith("_")}
    public = {name for name in public if not inspect.ismodule(getattr(edge_runtime, name))}
    assert public == set(edge_runtime.__all__)


@pytest.mark.parametrize("name", edge_runtime.__all__)
def test_public_names_have_docstrings(name: str) -> None:
    value = getattr(edge_runtime, name)
    # A dataclass without a docstring gets its signature as one.
    assert value.__doc__ and not value.__doc__.startswith(f"{name}(")
    for member, body in vars(value).items() if inspect.isclass(value) else ():
        if not member.startswith("_") and (inspect.isfunction(body) or isinstance(body, property)):
            assert body.__doc__, f"{name}.{member} has no docstring"
