"""Nothing is reported to the makers of an interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

_ASK = """
import sys
import sonoedge.edge_runtime
import openvino
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__, sys.modules["openvino_telemetry"])
"""


def test_openvino_does_not_report() -> None:
    pytest.importorskip("openvino")
    answer = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True, timeout=120)
    assert answer.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "None"]
