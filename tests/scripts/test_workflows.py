"""What runs elsewhere: every job of a workflow calls a script that is here, and .ci/run calls the same ones."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.places import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
JOBS = ["lint", "unit", "integration", "wheel", "browser", "android", "docs"]


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def scripts_of(job: dict[str, Any]) -> list[str]:
    """Paths of the scripts that a job's steps call."""
    return [path for step in job["steps"] for path in re.findall(r"bash (\S+)", step.get("run", ""))]


def missing(workflow: dict[str, Any], root: Path) -> list[str]:
    """Jobs without a script, and scripts that are not there."""
    found = []
    for name, job in workflow["jobs"].items():
        scripts = scripts_of(job)
        found += [f"{name}: {path}" for path in scripts if not (root / path).is_file()]
        found += [] if scripts else [f"{name}: no script"]
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_job_calls_a_script_that_exists(path: Path) -> None:
    workflow = load(path)
    assert missing(workflow, ROOT) == []
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            assert "run" not in step or re.fullmatch(r"bash \S+( .*)?", step["run"]), "logic belongs to a script"


def test_a_missing_script_is_seen() -> None:
    steps = [{"run": "bash scripts/ci/nothing.sh"}, {"uses": "actions/checkout@v4"}]
    broken = {"jobs": {"a": {"steps": steps}, "b": {"steps": steps[1:]}}}
    assert missing(broken, ROOT) == ["a: scripts/ci/nothing.sh", "b: no script"]


def test_the_jobs_of_a_pull_request() -> None:
    jobs = load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert list(jobs) == JOBS
    for name, job in jobs.items():
        assert scripts_of(job) == [f"scripts/ci/{name}.sh"]


def test_ci_run_calls_the_same_scripts() -> None:
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    # All tests include the unit tests; a run of their own would take minutes.
    assert [name for name in JOBS if name != "unit" and f"bash scripts/ci/{name}.sh" not in text] == []
    called = re.findall(r"^\s*bash (\S+)", text, re.MULTILINE)
    assert called and all((ROOT / path).is_file() for path in called)


def test_every_script_is_sound_shell() -> None:
    for folder in ("ci", "checks", "release"):
        for path in (ROOT / "scripts" / folder).glob("*.sh"):
            done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert "set -euo pipefail" in path.read_text() or "environment.sh" in path.read_text(), path.name


def test_the_python_versions_are_those_of_the_classifiers() -> None:
    classifiers = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', classifiers)
    jobs = load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert jobs["unit"]["strategy"]["matrix"]["python"] == named


def test_updates_look_where_something_is_locked() -> None:
    for update in load(ROOT / ".github" / "dependabot.yml")["updates"]:
        for folder in [update["directory"]] if "directory" in update else update["directories"]:
            assert (ROOT / folder.strip("/")).is_dir(), folder


def test_hooks_and_containers_name_what_is_there() -> None:
    hooks = load(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    for hook in hooks:
        for word in hook["entry"].split()[1:]:
            assert not word.startswith("scripts/") or (ROOT / word).is_file(), word
    for path in (ROOT / "containers").glob("*/Containerfile"):
        text = path.read_text(encoding="utf-8")
        extras = set(re.findall(r"/source\[([\w,]+)\]", text))
        known = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
        assert all(extra in known for group in extras for extra in group.split(","))
        assert "USER sonoedge" in text
