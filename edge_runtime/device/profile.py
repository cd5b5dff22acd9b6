"""The device profile: which artifact of a bundle is the fastest on this device, with how many threads.

``sonoedge benchmark --autotune`` measures and writes the profile; ``predict``, ``explain``, ``stream`` and
``serve`` follow it if called with ``--profile FILE``. It is one JSON object:

    kind, schema_version      sonoedge-device-profile, 1
    created                   UTC
    bundle, bundle_digest     name, and SHA-256 of SHA256SUMS: a profile is valid for exactly one bundle
    processor, architecture, cores
    artifact, threads         the choice; the artifact can be ``cascade``
    typical_ms                median of one frame after the resize; for a cascade the average
    reason                    of the choice, in one sentence
    measured                  what was tried: artifact, threads (0: left out), typical_ms, low_ms, high_ms (null
                              if it was not timed to the end), note
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from sonoedge.edge_runtime.backends import usable_cores
from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, bundle_digest
from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.typed_json import read_record, read_typed_json, to_plain

KIND = "sonoedge-device-profile"
SCHEMA_VERSION = 1
MAX_THREADS = 1024
_HEAD = {"kind", "schema_version"}


@dataclass(frozen=True)
class Tried:
    """One artifact with one number of threads, in milliseconds; ``note`` says why it was not chosen."""

    artifact: str
    threads: int
    typical_ms: float | None
    low_ms: float | None
    high_ms: float | None
    note: str


@dataclass(frozen=True)
class DeviceProfile:
    """A device profile; this module's docstring describes the fields."""

    created: str
    bundle: str
    bundle_digest: str
    processor: str
    architecture: str
    cores: int
    artifact: str
    threads: int
    typical_ms: float
    reason: str
    measured: tuple[Tried, ...]


def write_profile(profile: DeviceProfile, path: Path) -> None:
    """Write a profile atomically as JSON."""
    body = {"kind": KIND, "schema_version": SCHEMA_VERSION, **to_plain(profile)}
    write_text_atomic(path, json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_profile(path: Path) -> DeviceProfile:
    """Read and check a profile.

    Raises:
        DataError: the file is no valid profile of this schema version.
    """
    remedy = "Make it again: sonoedge benchmark --autotune --bundle BUNDLE --out PROFILE."
    body = read_typed_json(path, "device profile", (KIND,), SCHEMA_VERSION, remedy)
    profile = read_record(DeviceProfile, {k: v for k, v in body.items() if k not in _HEAD}, str(path))
    for name in ("threads", "cores"):
        value: int = getattr(profile, name)
        if not 1 <= value <= MAX_THREADS:
            raise DataError(f"{path}: {name} must be 1 to {MAX_THREADS}. Received: {value!r}.")
    return profile


def add_profile(parser: argparse._ActionsContainer) -> None:
    """Add the option ``--profile``."""
    parser.add_argument("--profile", type=Path, metavar="FILE", help=(
        "take artifact and threads from a device profile (sonoedge benchmark --autotune)"
    ))  # fmt: skip


def choice(
    bundle: Path, artifact: str | None, threads: int | None, path: Path | None
) -> tuple[str | None, int | None]:
    """The artifact and the number of threads: from the profile at ``path`` if there is one, else as given.

    Raises:
        DataError: see `read_profile`.
        UsageError: the profile is for another bundle, or artifact or threads are given as well.
    """
    if path is None:
        return artifact, threads
    if artifact is not None or threads is not None:
        raise UsageError("--profile chooses artifact and threads: leave --artifact and --threads out.")
    profile = read_profile(path)
    if not (bundle / SHA256SUMS).is_file():
        return profile.artifact, profile.threads  # there is no bundle: opening it raises the error
    digest = bundle_digest(bundle)
    if digest != profile.bundle_digest:
        raise UsageError(
            f"{path} was measured for another bundle than {bundle}: for {profile.bundle}, digest "
            f"{profile.bundle_digest[:12]}, not {digest[:12]}. Make one with: sonoedge benchmark --autotune"
        )
    cores = usable_cores()
    if (profile.architecture, profile.cores) != (platform.machine(), cores):
        print(
            f"note: {path} was measured on another machine ({profile.processor}, {profile.cores} cores).",
            file=sys.stderr,
        )
    return profile.artifact, profile.threads
