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
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, bundle_digest
from sonoedge.edge_runtime.errors import DataError, UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.typed_json import read_typed_json

KIND = "sonoedge-device-profile"
SCHEMA_VERSION = 1
MAX_THREADS = 1024


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
    body = {"kind": KIND, "schema_version": SCHEMA_VERSION, **asdict(profile)}
    write_text_atomic(path, json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_profile(path: Path) -> DeviceProfile:
    """Read and check a profile.

    Raises:
        DataError: the file is no valid profile of this schema version.
    """
    remedy = "Make it again with: sonoedge benchmark --autotune"
    body = read_typed_json(path, "device profile", (KIND,), SCHEMA_VERSION, remedy)
    fields = {key: value for key, value in body.items() if key not in {"kind", "schema_version"}}
    try:
        measured = tuple(Tried(**item) for item in fields.pop("measured"))
        profile = DeviceProfile(**fields, measured=measured)
    except (TypeError, KeyError) as error:
        raise DataError(f"{path} is not a whole device profile: {error}") from error
    for name in ("bundle", "bundle_digest", "artifact", "processor", "architecture"):
        if not isinstance(getattr(profile, name), str):
            raise DataError(f"{path}: {name} must be a text. Received: {getattr(profile, name)!r}.")
    for name in ("threads", "cores"):
        value: Any = getattr(profile, name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_THREADS:
            raise DataError(f"{path}: {name} must be 1 to {MAX_THREADS}. Received: {value!r}.")
    return profile


def add_profile(parser: argparse._ActionsContainer) -> None:
    """Add the option ``--profile``."""
    parser.add_argument("--profile", type=Path, metavar="FILE", help=(
        "take artifact and threads from a device profile (sonoedge benchmark --autotune)"
    ))  # fmt: skip


def chosen(args: argparse.Namespace) -> tuple[str | None, int | None]:
    """The artifact and the number of threads: from ``--profile``, else from ``--artifact`` and ``--threads``.

    Raises:
        DataError: see `read_profile`.
        UsageError: the profile is for another bundle, or is given together with ``--artifact`` or ``--threads``.
    """
    if args.profile is None:
        return args.artifact, args.threads
    if args.artifact is not None or args.threads is not None:
        raise UsageError("--profile chooses artifact and threads: leave --artifact and --threads out.")
    profile = read_profile(args.profile)
    bundle = Path(args.bundle)
    if not (bundle / SHA256SUMS).is_file():
        return profile.artifact, profile.threads  # there is no bundle: opening it raises the error
    digest = bundle_digest(bundle)
    if digest != profile.bundle_digest:
        raise UsageError(
            f"{args.profile} was measured for another bundle than {bundle}: for {profile.bundle}, digest "
            f"{profile.bundle_digest[:12]}, not {digest[:12]}. Make one with: sonoedge benchmark --autotune"
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if (profile.architecture, profile.cores) != (platform.machine(), cores):
        print(
            f"note: {args.profile} was measured on another machine ({profile.processor}, {profile.cores} cores).",
            file=sys.stderr,
        )
    return profile.artifact, profile.threads
