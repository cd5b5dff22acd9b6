"""The cache of what takes long: whole or not used, by several processes at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonoedge.export.cache import read_arrays, write_arrays
from sonoedge.export.formats import Source
from sonoedge.export.guard.evaluator import Evaluator
from sonoedge.export.quantize.activations import Activations
from sonoedge.export.quantize.ranges import ActivationStatistics
from sonoedge.export.quantize.recipes import Recipe
from tests.helpers.int8_models import SIZE, bench, two_branches

VALUES = np.linspace(-3, 3, 40)
NAMES = np.array(["one", "two"])


def entry(path: Path) -> bytes:
    write_arrays(path, values=VALUES, names=NAMES)
    return path.read_bytes()


def test_an_entry_comes_back(tmp_path: Path) -> None:
    assert read_arrays(tmp_path / "none.npz") is None
    entry(tmp_path / "a.npz")
    found = read_arrays(tmp_path / "a.npz")
    assert found is not None and found.keys() == {"values", "names"}
    np.testing.assert_array_equal(found["values"], VALUES)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_entry_is_never_believed(data: st.DataObject, tmp_path: Path) -> None:
    """Cut anywhere, or any byte changed: the arrays as they were, or none."""
    path = tmp_path / "a.npz"
    whole = bytearray(entry(path))
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    found = read_arrays(path)
    if found is None:
        assert not path.exists()
    else:
        for name, value in (("values", VALUES), ("names", NAMES)):
            np.testing.assert_array_equal(found[name], value)


def test_pickles_are_not_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "a.npz", values=np.array([{}], object))
    assert read_arrays(tmp_path / "a.npz") is None
    assert "a.npz is damaged" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["tflite", "openvino"])
def test_damaged_entries_are_computed_again(
    runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cut file of logits ended in a traceback, one of OpenVINO in a model that could not be read."""
    place = bench(tmp_path, two_branches(None), runtime, images=6, calibrated=4)
    suffix = place.source.quantizer(runtime).suffix
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    place.source.quantizer(runtime).build(first, Recipe())
    before = place.evaluator.compare(first, place.evaluator.open(first), "first").logits
    entries = sorted((tmp_path / "cache").glob("*.npz"))
    # Logits of float32 and of the file; activations of four images; the OpenVINO file.
    assert len(entries) == {"tflite": 2 + 4, "openvino": 2 + 4 + 1}[runtime]
    for path in entries:
        path.write_bytes(path.read_bytes()[:-40])
    capsys.readouterr()
    (tmp_path / "again").mkdir()
    source = Source(
        place.source.model, place.source.calibration, tmp_path / "again", tmp_path / "cache", progress=False
    )
    source.quantizer(runtime).build(second, Recipe())
    evaluator, head = place.evaluator, tmp_path / f"head{suffix}"
    again = Evaluator(
        evaluator.dataset, (SIZE, SIZE), runtime, head, evaluator.float_path, 0.5, cache=tmp_path / "cache"
    )
    after = again.compare(second, again.open(second), "second").logits
    np.testing.assert_allclose(after, before, atol=1e-5)
    warnings = capsys.readouterr().err.count("is damaged and will be computed again")
    # OpenVINO's file is never twice the same in every byte: the logits of the old one are not asked for.
    assert warnings == 6


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries from next year, or from 1970 as on a board without a battery, are as good as others."""
    place = bench(tmp_path, two_branches(None), images=4, calibrated=4)

    def collected() -> ActivationStatistics:
        source, cache = place.source, tmp_path / "cache"
        return Activations(
            source.tflite_float, source.calibration, (24, 24), cache=cache, progress=False
        ).statistics

    first = collected()
    for path, when in zip((tmp_path / "cache").iterdir(), (0, time.time() + 4e7), strict=False):
        os.utime(path, (when, when))
    monkeypatch.setattr(
        "sonoedge.export.quantize.recorders.TFLiteRecorder.values", lambda *_: pytest.fail("computed again")
    )
    second = collected()
    np.testing.assert_array_equal(second.samples, first.samples)


@pytest.mark.slow
def test_processes_at_one_cache(tmp_path: Path) -> None:
    """Three at once, while a fourth hand damages entries: all get the results of one that is alone."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[1]), str(here)])}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"

    def start(name: str, cache: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(here / "cache_worker.py"), str(tmp_path / name), str(tmp_path / cache)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)

    def release(workers: list[subprocess.Popen[str]]) -> None:
        """All begin when all have imported TensorFlow."""
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()

    workers = [start(name, "shared") for name in "abc"]
    release(workers)
    damaged: set[Path] = set()
    while any(worker.poll() is None for worker in workers):
        time.sleep(0.05)  # polling: how often decides nothing
        for victim in set((tmp_path / "shared").rglob("[!.]*.npz")) - damaged:
            content = victim.read_bytes() if victim.exists() else b""
            if content:
                victim.write_bytes(content[: len(content) // 2])
                damaged.add(victim)
    results = [(worker.communicate(), worker.returncode) for worker in workers]
    assert [code for _, code in results] == [0, 0, 0], "\n".join(err for (_, err), _ in results)
    alone = start("d", "alone")
    release([alone])
    expected, errors = alone.communicate()
    assert alone.returncode == 0, errors
    assert damaged
    for (out, _), _ in results:
        assert json.loads(out) == json.loads(expected)
    assert not list((tmp_path / "shared").rglob(".*"))
