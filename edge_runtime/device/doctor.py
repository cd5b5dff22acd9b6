"""What is missing or slow on this device: checks that read files of the system and change nothing."""

from __future__ import annotations

import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from sonoedge.edge_runtime.backends import extra_of, is_32_bit, is_available, no_wheel
from sonoedge.edge_runtime.bundle.contract import RUNTIMES, Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.bundle.signature import read_signature
from sonoedge.edge_runtime.bundle.trust import POLICY_VARIABLE, device_policy, enforce, trusted
from sonoedge.edge_runtime.device import system
from sonoedge.edge_runtime.errors import SonoEdgeError, how_to_install

OK, WARNING, FAILURE, UNKNOWN = "ok", "warning", "failure", "unknown"
_PACKAGES = {
    "tflite": {"ai_edge_litert.interpreter": "ai-edge-litert", "tflite_runtime.interpreter": "tflite-runtime"},
    "openvino": {"openvino": "openvino"},
    "onnx": {"onnxruntime": "onnxruntime"},
}
# Feature flag in /proc/cpuinfo -> the instructions that it stands for.
_VECTORS = {"asimd": "64-bit NEON", "neon": "32-bit NEON", "avx2": "AVX2", "sse4_1": "SSE4.1"}
# Bits of the Raspberry Pi firmware's get_throttled that hold now; the same 16 bits higher hold since boot.
_THROTTLED_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_MIB = 1 << 20
# This plus three times the files is an upper bound: VGG19 + EfficientNetB0 peaks at 125–323 MiB by format (x86-64).
_BASE_MEMORY_BYTES = 160 * _MIB
_HOT_CELSIUS = 75.0
_EARLIEST_YEAR = 2026


@dataclass(frozen=True)
class Check:
    """One finding. ``status`` is ok, warning, failure or unknown; ``advice`` says what to do, empty for nothing."""

    name: str
    status: str
    finding: str
    advice: str = ""


def examine(bundle: str | Path | None, *, root: Path = Path("/")) -> tuple[list[Check], Bundle | None]:
    """All checks in order; with a bundle, also whether this device can run it.

    Args:
        bundle: its folder, or None.
        root: the folder of ``proc`` and ``sys``; tests give another.

    Returns:
        The checks, and the bundle if it is sound and this device's policy accepts it.
    """
    checks = [check_python(), *(check_interpreter(runtime) for runtime in RUNTIMES), check_processor(root)]
    checks += [check_governor(root), check_throttling(root), check_clock()]
    loaded: Bundle | None = None
    if bundle is not None:
        try:
            # Not load_trusted: it would record this bundle, and the device would refuse all older ones.
            policy, found = device_policy(), load_bundle(bundle)
            loaded = trusted(found) if policy is None else enforce(policy, found)
        except SonoEdgeError as error:
            checks.append(Check("bundle", FAILURE, str(error), "Copy the bundle again, or see `sonoedge verify`."))
    checks.append(check_memory(root, loaded))
    if loaded is not None:
        checks += [check_bundle(loaded), check_signature(loaded)]
    if all(not is_available(runtime) for runtime in RUNTIMES):
        advice = no_wheel("tflite") or how_to_install("pi" if extra_of("tflite") == "litert" else "pi32")
        checks.append(Check("interpreter", FAILURE, "none is installed", advice))
    return checks, loaded


def check_python() -> Check:
    """Python's version, and whether it is a 32-bit program (a 64-bit kernel often runs one)."""
    bits = 32 if is_32_bit() else 64
    finding = f"{platform.python_version()}, {bits}-bit on {platform.machine() or 'unknown processor'}"
    if advice := no_wheel("tflite"):
        return Check("python", WARNING, finding, advice)
    if bits == 32:
        return Check("python", WARNING, finding, "A 64-bit system runs the same model 1.5–2 times faster.")
    return Check("python", OK, finding)


def check_interpreter(runtime: str, *, run: Callable[..., subprocess.CompletedProcess] = subprocess.run) -> Check:
    """Import an interpreter in a child process: a wheel for another processor crashes the child, not us."""
    for module, package in _PACKAGES[runtime].items():
        try:
            number = version(package)
        except PackageNotFoundError:
            continue
        name, label = f"interpreter {runtime}", f"{package} {number}"
        try:
            child = run([sys.executable, "-P", "-c", f"import {module}"], capture_output=True, timeout=120)
        except subprocess.TimeoutExpired:
            return Check(name, FAILURE, f"{label} did not import within 120 s")
        except OSError as error:
            return Check(name, UNKNOWN, f"{label}; not tried: {error.strerror}")
        if child.returncode == -signal.SIGILL:
            advice = "Install the wheel for this processor, or another interpreter."
            return Check(name, FAILURE, f"{label} uses an instruction that this processor lacks (SIGILL)", advice)
        if child.returncode:
            last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2][:160]
            advice = (
                'It needs NumPy 1: pip install "numpy<2"'
                if package == "tflite-runtime" and np.lib.NumpyVersion(np.__version__) >= "2.0.0"
                else f"Reinstall {package} for this Python and processor."
            )
            return Check(
                name, FAILURE, f"{label} does not import: {last or f'exit code {child.returncode}'}", advice
            )
        return Check(name, OK, label)
    return Check(f"interpreter {runtime}", UNKNOWN, f"not installed (extra: {extra_of(runtime)})")


def check_processor(root: Path) -> Check:
    """Which vector and int8 instructions the processor has."""
    text = system.read(root / "proc/cpuinfo")
    if not text:
        return Check("processor", UNKNOWN, "no /proc/cpuinfo")
    flags = system.processor_flags(root)
    model = system.processor_name(root) or platform.machine()
    vectors = next((label for flag, label in _VECTORS.items() if flag in flags), "")
    dots = system.int8_dot_products(root)
    cores = len(re.findall(r"(?mi)^processor\s*:", text))
    finding = f"{model}, {cores} cores, {', '.join([vectors or 'no vector instructions', *dots])}"
    if not vectors:
        return Check("processor", FAILURE, finding, "Interpreters need NEON or SSE4.1.")
    if not dots:
        return Check("processor", OK, finding, "No int8 dot product: int8 may be no faster than float32; measure.")
    return Check("processor", OK, finding)


def check_governor(root: Path) -> Check:
    """The CPU frequency governor of all cores."""
    found = system.governors(root)
    if not found:
        return Check("governor", UNKNOWN, "no frequency scaling to be seen")
    if found == "performance":
        return Check("governor", OK, found)
    return Check(
        "governor",
        WARNING if "powersave" in found else OK,
        found,
        "For steady latency: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    )


def check_throttling(root: Path) -> Check:
    """Under-voltage and heat, as the Raspberry Pi firmware reports them; on other boards only the temperature."""
    celsius = system.hottest_celsius(root)
    hot = "" if celsius is None else f", {celsius:.0f} °C"
    if (bits := system.throttled_bits(root)) is not None:
        now = [label for bit, label in _THROTTLED_NOW.items() if bits >> bit & 1]
        before = [label for bit, label in _THROTTLED_NOW.items() if bits >> (bit + 16) & 1]
        if now:
            advice = "Use the board's own power supply and a heat sink or fan."
            return Check("throttling", WARNING, f"now: {', '.join(now)}{hot}", advice)
        if before:
            advice = "Latency was higher at times: check power supply and cooling."
            return Check("throttling", WARNING, f"since boot: {', '.join(before)}{hot}", advice)
        return Check("throttling", OK, f"none since boot{hot}")
    if celsius is None:
        return Check("throttling", UNKNOWN, "no sensor")
    status = WARNING if celsius >= _HOT_CELSIUS else OK
    return Check("throttling", status, f"{celsius:.0f} °C", "Cool the board." if status == WARNING else "")


def check_clock() -> Check:
    """Whether the clock is set. A board without a battery starts in the past, and its times are wrong until it
    reaches a time server."""
    year = time.gmtime().tm_year
    if year < _EARLIEST_YEAR:
        return Check("clock", WARNING, f"the year is {year}", "Set the clock: timedatectl, or fit a battery.")
    return Check("clock", OK, time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))


def check_memory(root: Path, bundle: Bundle | None) -> Check:
    """Whether memory suffices for the largest artifact that runs here: 160 MiB and three times its files."""
    total, available = (system.memory_bytes(name, root) for name in ("MemTotal", "MemAvailable"))
    if total is None or available is None:
        return Check("memory", UNKNOWN, "no /proc/meminfo")
    largest = max((a.size_bytes for a in bundle.artifacts if is_available(a.runtime)), default=0) if bundle else 0
    needed = _BASE_MEMORY_BYTES + 3 * largest
    finding = f"{available // _MIB} of {total // _MIB} MiB available; about {needed // _MIB} MiB needed"
    if available < needed:
        return Check("memory", WARNING, finding, "Stop other programs, or use a smaller artifact (tflite-int8).")
    return Check("memory", OK, finding)


def check_bundle(bundle: Bundle) -> Check:
    """Which artifacts run here."""
    runnable = [a.name for a in bundle.artifacts if is_available(a.runtime)]
    if not runnable:
        has = ", ".join(f"{a.name} ({extra_of(a.runtime)})" for a in bundle.artifacts)
        runtime = bundle.artifacts[0].runtime
        advice = f"It has: {has}. {no_wheel(runtime) or f'Install one: {how_to_install(extra_of(runtime))}'}"
        return Check("bundle", FAILURE, f"{bundle.name}: no artifact can run on this device", advice)
    others = [a.name for a in bundle.artifacts if a.name not in runnable]
    finding = f"{bundle.name}: runs {runnable[0]} by default; also {', '.join(runnable[1:]) or 'nothing else'}"
    return Check("bundle", OK, finding + (f"; not here: {', '.join(others)}" if others else ""))


def check_signature(bundle: Bundle) -> Check:
    """Whether the bundle is signed, and whether this device's policy asks for a signature."""
    policy, signature = device_policy(), read_signature(bundle.path)
    if policy is not None and policy.allowed_signers:
        return Check("signature", OK, "by an allowed signer")
    if signature is None:
        return Check("signature", OK, "none: digests find damage, not forgery", "See `sonoedge sign`.")
    return Check("signature", OK, f"key {signature.key[:16]}…, not checked", f"Set {POLICY_VARIABLE} to a policy.")
