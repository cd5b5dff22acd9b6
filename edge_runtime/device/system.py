"""What the system says about this machine, from ``proc`` and ``sys``: processor, memory, clock, heat.

``root`` is the folder that holds ``proc`` and ``sys``; tests give another. If a file is missing, as outside Linux,
the answer is None or empty.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path("/")
# Feature flag in /proc/cpuinfo -> the instructions that it stands for.
_DOT_PRODUCT = {
    "asimddp": "dot product",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "i8mm": "int8 matrix",
}


def read(path: Path) -> str:
    """The text of a small system file without white space around it; empty if unreadable (sensors may refuse)."""
    try:
        with path.open("rb") as file:
            return file.read(1 << 20).decode(errors="replace").strip().rstrip("\0")
    except OSError:
        return ""


def processor_name(root: Path = ROOT) -> str | None:
    """The board's name (the device tree of a Raspberry Pi holds it), else the processor's name."""
    if board := read(root / "proc/device-tree/model"):
        return board
    found = re.search(r"(?m)^(?:model name|Model)\s*:\s*(.+)$", read(root / "proc/cpuinfo"))
    return found[1].strip() if found else None


def processor_flags(root: Path = ROOT) -> set[str]:
    """Features of the processor, as /proc/cpuinfo spells them."""
    return set(" ".join(re.findall(r"(?mi)^(?:features|flags)\s*:(.*)$", read(root / "proc/cpuinfo"))).split())


def int8_dot_products(root: Path = ROOT) -> list[str]:
    """Names of the processor's int8 dot products (VNNI, Arm's dot product); empty if none is known.

    Without int8 dot products int8 is hardly faster than float32.
    """
    flags = processor_flags(root)
    return [label for flag, label in _DOT_PRODUCT.items() if flag in flags]


def memory_bytes(name: str, root: Path = ROOT) -> int | None:
    """Bytes of ``MemTotal`` or ``MemAvailable`` (what programs can get without swapping)."""
    found = re.search(rf"(?m)^{name}:\s+(\d+) kB", read(root / "proc/meminfo"))
    return int(found[1]) * 1024 if found else None


def governors(root: Path = ROOT) -> str:
    """The CPU frequency governors of all cores, each once, joined by commas."""
    found = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    return ", ".join(sorted({read(path) for path in found} - {""}))


def throttled_bits(root: Path = ROOT) -> int | None:
    """``get_throttled`` of the Raspberry Pi's firmware: bits 0–3 are for now, bits 16–19 since boot."""
    for path in sorted(root.glob("sys/devices/platform/soc*/soc*firmware/get_throttled")):
        if re.fullmatch(r"(?:0x)?[0-9a-fA-F]{1,8}", text := read(path)):
            return int(text, 16)
    return None


def hottest_celsius(root: Path = ROOT) -> float | None:
    """The highest temperature that the system reports, in degrees Celsius."""
    texts = [read(path) for path in root.glob("sys/class/thermal/thermal_zone*/temp")]
    return max((int(text) / 1000 for text in texts if re.fullmatch(r"-?\d{1,7}", text)), default=None)
