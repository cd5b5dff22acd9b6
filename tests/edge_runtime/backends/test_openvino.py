"""What OpenVINO leaves behind in the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import ROOT
from tests.helpers.stations import PATIENCE

CLOSED_THEN_TERMINATED = """
import gc, os, signal, sys
import numpy as np
from sonoedge.edge_runtime.model.classifier import Classifier

def stop(*_):
    print("clean")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
classifier = Classifier(sys.argv[1], "openvino-fp32")
classifier.predict(np.zeros((50, 50, 3), np.uint8))
del classifier
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_sigterm_after_the_last_openvino_model_was_closed(float_bundle: Path) -> None:
    """OpenVINO unloaded its plugin, but not its hook for SIGTERM: the process crashed."""
    result = subprocess.run(
        [sys.executable, "-c", CLOSED_THEN_TERMINATED, str(float_bundle)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (result.returncode, result.stdout) == (0, "clean\n")
