"""`sonoedge doctor`: what it says about boards it has never seen, from their system files."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sonoedge.edge_runtime.device import doctor
from sonoedge.edge_runtime.device.doctor import FAILURE, OK, UNKNOWN, WARNING
from tests.helpers.bundles import build
from tests.helpers.places import SMALL_BUNDLE

PI_4 = """processor	: 0
Features	: fp asimd evtstrm crc32 cpuid
processor	: 1
Features	: fp asimd evtstrm crc32 cpuid
Hardware	: BCM2835
Model		: Raspberry Pi 4 Model B Rev 1.4
"""
PI_5 = PI_4.replace("cpuid", "cpuid asimddp").replace("Pi 4", "Pi 5")
PC = "processor : 0\nmodel : 17\nmodel name : Some CPU\nflags : fpu sse4_1 avx2 avx512_vnni\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("cpuinfo", "status", "words"),
    [
        (PI_4, OK, ["Raspberry Pi 4 Model B", "2 cores", "NEON"]),
        (PI_5, OK, ["Raspberry Pi 5", "dot product"]),
        (PC, OK, ["Some CPU", "AVX2", "AVX512-VNNI"]),
        ("processor : 0\nFeatures : half thumb vfp\nModel : Raspberry Pi Zero\n", FAILURE, ["no vector"]),
        ("", UNKNOWN, ["/proc/cpuinfo"]),
    ],
)
def test_processor(cpuinfo: str, status: str, words: list[str], root: Path) -> None:
    put(root, "proc/cpuinfo", cpuinfo)
    check = doctor.check_processor(root)
    assert check.status == status
    assert all(word in check.finding for word in words)
    assert ("no int8 dot product" in check.advice.lower()) == (cpuinfo == PI_4)


@pytest.mark.parametrize(
    ("governors", "status"),
    [
        (["performance"] * 4, OK),
        (["ondemand"] * 4, OK),
        (["performance", "powersave"], WARNING),
        ([], UNKNOWN),
    ],
)
def test_governor(governors: list[str], status: str, root: Path) -> None:
    for number, name in enumerate(governors):
        put(root, f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor", name + "\n")
    check = doctor.check_governor(root)
    assert check.status == status
    assert ("performance" in check.advice) == (bool(governors) and set(governors) != {"performance"})


@pytest.mark.parametrize(
    ("bits", "status", "finding"),
    [
        ("0", OK, "none since boot, 61 °C"),
        ("50005", WARNING, "now: under-voltage, throttled, 61 °C"),
        ("e0000", WARNING, "since boot: frequency capped, throttled, soft temperature limit, 61 °C"),
        ("no number", OK, "61 °C"),
    ],
)
def test_throttling(bits: str, status: str, finding: str, root: Path) -> None:
    put(root, "sys/devices/platform/soc/soc:firmware/get_throttled", bits + "\n")
    put(root, "sys/class/thermal/thermal_zone0/temp", "61322\n")
    put(root, "sys/class/thermal/thermal_zone1/temp", "garbage\n")
    check = doctor.check_throttling(root)
    assert (check.status, check.finding) == (status, finding)


def test_heat_without_a_firmware_report(root: Path) -> None:
    put(root, "sys/class/thermal/thermal_zone0/temp", "80000")
    assert doctor.check_throttling(root).status == WARNING
    assert doctor.check_throttling(root / "nowhere").status == UNKNOWN


def test_memory(root: Path) -> None:
    assert doctor.check_memory(root, None).status == UNKNOWN
    put(root, "proc/meminfo", "MemTotal: 948304 kB\nMemFree: 1 kB\nMemAvailable: 102400 kB\n")
    check = doctor.check_memory(root, None)
    assert (check.status, "100 of 926 MiB" in check.finding) == (WARNING, True)
    put(root, "proc/meminfo", "MemTotal: 3948304 kB\nMemAvailable: 3024000 kB\n")
    assert doctor.check_memory(root, None).status == OK


def test_a_clock_that_was_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.time, "gmtime", lambda: SimpleNamespace(tm_year=1970))
    assert doctor.check_clock().status == WARNING


@pytest.mark.parametrize(
    ("result", "status", "words"),
    [
        (subprocess.CompletedProcess([], 0, b"", b""), OK, "ai-edge-litert"),
        (
            subprocess.CompletedProcess([], -signal.SIGILL, b"", b""),
            FAILURE,
            "instruction that this processor lacks",
        ),
        (subprocess.CompletedProcess([], 1, b"", b"Trace\nImportError: no such symbol"), FAILURE, "no such symbol"),
        (subprocess.TimeoutExpired("python", 120), FAILURE, "did not import"),
        (OSError(8, "Exec format error"), UNKNOWN, "Exec format error"),
    ],
)
def test_interpreters_are_imported_in_a_child(result: object, status: str, words: str) -> None:
    pytest.importorskip("ai_edge_litert")

    def run(*_: object, **__: object) -> subprocess.CompletedProcess:
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, subprocess.CompletedProcess)
        return result

    check = doctor.check_interpreter("tflite", run=run)
    assert (check.status, words in check.finding) == (status, True)


@pytest.mark.long
def test_no_interpreter_for_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "is_available", lambda runtime: False)
    check = doctor.check_bundle(build(tmp_path / "bundle"))
    assert check.status == FAILURE
    assert "tflite-fp32 (litert), openvino-int8 (openvino)" in check.advice
    checks, _ = doctor.examine(None)
    assert checks[-1].finding == "none is installed"


def test_command(run_bundle: Path, tmp_path: Path, sonoedge: Callable) -> None:
    result = sonoedge("doctor", "--bundle", run_bundle, "--measure", 3, "--json")
    assert result.code == 0, result.out
    body = json.loads(result.out)
    assert body["ok"] is True
    assert set(body["measured_ms"]) == {"tflite-int8", "tflite-fp32"}
    assert all(figures["p50_ms"] > 0 for figures in body["measured_ms"].values())
    text = sonoedge("doctor", "--bundle", run_bundle).out
    assert "--measure 20" in text and "Research use only" in text
    missing = sonoedge("doctor", "--bundle", tmp_path / "none")
    assert (missing.code, "FAIL bundle" in missing.out) == (1, True)
    assert sonoedge("doctor", "--measure", 3).code == 2


@pytest.mark.long
@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13)])
def test_a_32_bit_system_without_a_wheel(python: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """tflite-runtime's last wheels for 32-bit Arm end at Python 3.11: no extra helps after that."""
    from sonoedge.edge_runtime import backends
    from sonoedge.edge_runtime.backends import tflite
    from sonoedge.edge_runtime.bundle.manifest import load_bundle
    from sonoedge.edge_runtime.errors import MissingExtraError
    from sonoedge.edge_runtime.model import classifier

    def refuse(name: str) -> None:
        raise ImportError(name)

    board = SimpleNamespace(maxsize=2**31 - 1, version_info=(*python, 0, "final", 0))
    monkeypatch.setattr(backends, "sys", board)
    monkeypatch.setattr(tflite, "import_module", refuse)
    monkeypatch.setattr(doctor, "is_available", lambda _: False)
    monkeypatch.setattr(classifier, "is_available", lambda _: False)
    bundle = load_bundle(SMALL_BUNDLE)
    with pytest.raises(MissingExtraError) as loading:
        tflite.load_interpreter_class()
    with pytest.raises(MissingExtraError) as choosing:
        classifier.first_runnable(bundle)
    checks, _ = doctor.examine(None)
    found = {check.name: check for check in checks}
    texts = [str(loading.value), str(choosing.value), found["interpreter"].advice]
    texts.append(doctor.check_bundle(bundle).advice)
    assert "tflite-runtime is not installed" in texts[0]
    if python == (3, 11):
        assert all("pi32]" in text for text in texts)
        assert "64-bit" in found["python"].advice
        return
    sentence = f"no TensorFlow Lite for Python 3.{python[1]} on a 32-bit system: use a 64-bit system"
    for text in (*texts, found["python"].advice):
        assert sentence in text and "Python 3.11 (Debian 12" in text and "pip install" not in text
