"""Whether the device install stays as small as it is: exactly these distributions, and no more megabytes.

    VENV/bin/python scripts/checks/device_size.py      (the Python of an install of sonoedge[pi])

Megabytes are 1,000,000 bytes of installed files, without bytecode, whose size depends on the Python version, and
without pip. The figure holds for x86-64 Linux, Python 3.11 and ``constraints.txt``: state a new one on purpose.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from importlib.metadata import distributions

OURS = {"sonoedge", "numpy", "pillow", "ai-edge-litert"}
OF_LITERT = {"backports-strenum", "flatbuffers", "ml-dtypes", "protobuf", "tqdm", "typing-extensions"}
MEGABYTES = 142.8
SLACK_MEGABYTES = 0.5
"""Room for a fix that adds some lines; a new library does not fit in."""
_TOOLS = {"pip", "setuptools", "wheel"}


def main() -> int:
    """Print both numbers; exit code 1 if a distribution came or went, or if the install grew."""
    found = installed()
    if (sys.version_info[:2], platform.machine()) != ((3, 11), "x86_64"):
        print("note: the allowed megabytes are those of Python 3.11 on x86-64; distributions alone are checked.")
        found = dict.fromkeys(found, 0)
    print(f"device install: {len(found)} distributions, {_megabytes(found):.1f} MB; allowed: {_allowed()}")
    wrong = complaints(found)
    for line in wrong:
        print(f"error: {line}")
    return 1 if wrong else 0


def installed() -> dict[str, int]:
    """Bytes of every distribution of this Python, by its normalised name; pip and its like are left out."""
    found = {}
    for distribution in distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        paths = [file.locate() for file in distribution.files or () if file.suffix != ".pyc"]
        found[name] = sum(path.stat().st_size for path in paths if path.is_file())
    return {name: size for name, size in sorted(found.items()) if name not in _TOOLS}


def complaints(found: Mapping[str, int]) -> list[str]:
    """What is not as it was, a sentence each."""
    lines = []
    if came := found.keys() - OURS - OF_LITERT:
        sizes = ", ".join(f"{name} ({found[name] / 1e6:.1f} MB)" for name in sorted(came))
        lines.append(f"The device install must gain no distribution. It gained: {sizes}.")
    if gone := (OURS | OF_LITERT) - found.keys():
        lines.append(f"The device install lacks {', '.join(sorted(gone))}: take it off the list in {__file__}.")
    if _megabytes(found) > MEGABYTES + SLACK_MEGABYTES:
        largest = sorted(found, key=lambda name: -found[name])[:4]
        sizes = ", ".join(f"{name} {found[name] / 1e6:.1f}" for name in largest)
        lines.append(f"The device install has {_megabytes(found):.1f} MB, allowed: {_allowed()}. Largest: {sizes}.")
    return lines


def _megabytes(found: Mapping[str, int]) -> float:
    return sum(found.values()) / 1e6


def _allowed() -> str:
    return f"{len(OURS | OF_LITERT)} distributions, {MEGABYTES:g} + {SLACK_MEGABYTES:g} MB"


if __name__ == "__main__":
    raise SystemExit(main())
