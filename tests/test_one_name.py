"""Everything lives under the name sonoedge: what lies in the working directory is never taken for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sonoedge.edge_runtime.children import child_environment, python_call
from tests.helpers.places import ROOT

PACKAGES = ("edge_runtime", "train", "export", "benchmarks")

AS_MODULE = """
import atexit, runpy, sys
from pathlib import Path

def modules():
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name != "__main__" and file and Path(file).resolve().is_relative_to(sys.argv[1]):
            print("loaded:", name, Path(file).resolve())

atexit.register(modules)
package = sys.argv[2]
sys.argv[2:] = ["--help"]
sys.argv[0] = package
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module(package, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_one_module_for_each_file(package: str, tmp_path: Path) -> None:
    """``python -m train`` in the checkout: `train.x` and `sonoedge.train.x` are never both loaded."""
    code = AS_MODULE.replace("sys.argv[1])", f"{str(ROOT)!r})")
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT, package], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("loaded:")]
    names, files = [name for name, _ in loaded], [file for _, file in loaded]
    assert "sonoedge.edge_runtime.cli" in names
    assert not [name for name in names if name.partition(".")[0] in PACKAGES]
    assert len(set(files)) == len(files)


def strangers(folder: Path) -> Path:
    """A folder of somebody who has modules of his own, under our packages' names and under one of Python's."""
    for name in (*PACKAGES, "json"):
        package = folder / name
        package.mkdir()
        (package / "__init__.py").write_text(f"raise SystemExit('{name} of the working directory was imported')\n")
    for name in PACKAGES:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the working directory was imported')\n")
    return folder


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_with_a_train_py(package: str, tmp_path: Path) -> None:
    (strangers(tmp_path) / "json" / "__init__.py").unlink()
    (tmp_path / "json").rmdir()
    done = subprocess.run(
        [sys.executable, "-m", f"sonoedge.{package}", "--help"],
        cwd=tmp_path, env=child_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: sonoedge")


@pytest.mark.long
@pytest.mark.parametrize(
    ("function", "sent"),
    [
        ("sonoedge.benchmarks.measure.worker:main", '{"do": "nothing"}\n'),
        ("sonoedge.edge_runtime.dicom.decode_frames:main", "no DICOM file"),
        ("sonoedge.edge_runtime.device.sandbox:child", ""),
    ],
)
def test_a_child_process_imports_nothing_from_the_working_directory(
    function: str, sent: str, tmp_path: Path
) -> None:
    pytest.importorskip("pydicom")
    arguments = {"worker": [], "decode_frames": ["0", "1"], "sandbox": ['{"bundle": "none"}']}
    given = next(value for name, value in arguments.items() if f".{name}:" in function)
    done = subprocess.run(
        python_call(function, *given),
        cwd=strangers(tmp_path), env=child_environment(), input=sent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "working directory was imported" not in done.stdout + done.stderr
    module = function.partition(":")[0]
    assert f"No module named '{module}'" not in done.stderr


POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from sonoedge.edge_runtime.children import safe_path

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with safe_path(), ProcessPoolExecutor(1, mp_context=spawn) as pool:
        print(pool.submit(pow, 2, 3).result())
"""


def test_a_pool_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(POOL)
    here = tmp_path / "here"
    here.mkdir()
    (here / "pickle.py").write_text("raise SystemExit('pickle.py of the working directory was imported')\n")
    done = subprocess.run(
        [sys.executable, script], cwd=here, env=child_environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr
