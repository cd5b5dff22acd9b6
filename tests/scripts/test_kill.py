"""kill -9 in the middle of train, export, benchmark and install; the scripts do it 200 and 50 times."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.places import ROOT

SCRIPT = ROOT / "scripts/checks/kill.py"
INSTALL_SCRIPT = ROOT / "scripts/checks/kill_install.py"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="fork and kill -9")
def test_nothing_is_lost() -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "9", "--seconds", "120", "--seed", "3", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    body = json.loads(done.stdout.splitlines()[-1])
    assert body["losses"] == []
    assert body["kills"] >= 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="fork, kill -9 and /proc")
def test_a_device_keeps_a_working_bundle() -> None:
    command = [sys.executable, str(INSTALL_SCRIPT), "--kills", "9", "--seed", "3", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    body = json.loads(done.stdout.splitlines()[-1])
    assert (body["losses"], body["kills"], body["old"] + body["new"]) == ([], 9, 9)
