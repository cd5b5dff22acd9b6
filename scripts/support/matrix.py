"""Run the unit tests under every Python that SonoEdge names and this machine has; write docs/results/support.json.

    python scripts/support/matrix.py --out docs/results/support.json
    python scripts/support/matrix.py --only 3.12 --keep /tmp/venvs

Each Python gets an environment of its own with the locked versions and everything but TensorFlow and Keras, which
the unit tests do without. What cannot be run is written down as not run, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
LEFT_OUT = {"tensorflow", "keras"}
NOT_RUN = (
    {"what": "macOS, Windows", "why": "no such machine"},
    {"what": "Raspberry Pi 4 and 5, boards", "why": "no board; docs/results/raspberry-pi.md has what was emulated"},
    {"what": "Android phones", "why": "no phone; docs/results/android.md has what ran on the JVM"},
    {
        "what": "oldest allowed version of every dependency",
        "why": "no script yet; the lock has one version of each",
    },
)
"""Rows of the matrix that no command here fills."""


def main() -> int:
    """Run what can be run; exit code 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", metavar="3.X", help="this Python only; may be repeated")
    parser.add_argument("--tests", nargs="+", default=["tests"], metavar="PATH", help="a part of the tests")
    parser.add_argument("--out", type=Path, help="where the JSON goes (default: printed)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="environments, used again by the next call")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        rows = [run(version, folder, args.tests) for version in args.only or versions()]
    from sonoedge.benchmarks.measure.environment import how_made, this_command

    body = {
        **how_made([this_command("python scripts/support/matrix.py")], weights="none"),
        "pythons": rows,
        "not_run": list(NOT_RUN),
    }
    text = json.dumps(body, indent=1) + "\n"
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    print(text if not args.out else f"wrote {args.out}")
    return 1 if any(row["outcome"] == "failed" for row in rows) else 0


def versions() -> list[str]:
    """The Python versions that the classifiers of pyproject.toml name."""
    found = (
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in _project()["classifiers"]
    )
    return [match[1] for match in found if match]


def requirements(extras: tuple[str, ...] = ("all", "dev")) -> list[str]:
    """What the extras install, ours resolved, without `LEFT_OUT`."""
    return sorted(set(_project()["dependencies"]) | set(_flat(extras)))


def _flat(extras: tuple[str, ...]) -> Iterator[str]:
    known = _project()["optional-dependencies"]
    for extra in extras:
        for line in known[extra]:
            if ours := re.fullmatch(r"sonoedge\[([\w,]+)\]", line):
                yield from _flat(tuple(ours[1].split(",")))
            elif re.split(r"[^\w-]", line)[0] not in LEFT_OUT:
                yield line


def run(version: str, folder: Path, tests: Sequence[str] = ("tests",)) -> dict[str, Any]:
    """One row: outcome ``passed``, ``failed`` or ``not run``, counts, seconds."""
    row: dict[str, Any] = {"python": version, "outcome": "not run", "why": "", "tests": list(tests)}
    if not (exact := interpreter(version)):
        return row | {"why": f"no python{version} here"}
    row["python"] = exact
    venv = folder / f"py{version}"
    pip = [venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--constraint", ROOT / "constraints.txt"]
    ours = [*pip, "--no-deps", "--editable", "."]
    steps = [[f"python{version}", "-m", "venv", venv], [*pip, *requirements()], ours]
    for step in steps:
        if (done := _call(step)).returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            return row | {"why": f"cannot be installed: {' '.join(last)}"}
    started = monotonic()
    done = _call(
        [venv / "bin" / "python", "-m", "pytest", "-m", "unit", "--basetemp", folder / f"t{version}", *tests]
    )
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout)}
    if done.returncode:
        print(done.stdout[-6000:], file=sys.stderr)
    return row | {
        "outcome": "failed" if done.returncode else "passed",
        "passed": counts.get("passed", 0),
        "failed": counts.get("failed", 0) + counts.get("error", 0),
        "skipped": counts.get("skipped", 0),
        "failures": re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE),
        "seconds": round(monotonic() - started),
    }


def interpreter(version: str) -> str:
    """The exact version of ``python3.X`` here; empty if there is none that runs."""
    try:
        done = _call([f"python{version}", "-c", "import platform; print(platform.python_version())"])
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _call(words: list[Any]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([*map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True)


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


if __name__ == "__main__":
    sys.exit(main())
