"""SHA256SUMS: the digests of every other file of a bundle, in the format of ``sha256sum --check``."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from sonoedge.edge_runtime.errors import BundleError
from sonoedge.edge_runtime.files import sha256_file

SHA256SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
"""The signature of SHA256SUMS; SHA256SUMS therefore cannot list it."""


def bundle_digest(folder: Path) -> str:
    """SHA-256 of a bundle's SHA256SUMS, 64 hexadecimal digits; it identifies the bundle to the byte."""
    return sha256_file(folder / SHA256SUMS)


def digests_text(folder: Path) -> str:
    """The content of SHA256SUMS for a folder: ``<digest>  <path>`` lines, sorted by path.

    Raises:
        BundleError: the folder holds a link.
    """
    names = sorted(_files_in(folder) - {SHA256SUMS, SIGNATURE})
    return "".join(f"{sha256_file(folder / name)}  {name}\n" for name in names)


def parse_digests(data: bytes) -> dict[str, str]:
    """Path -> digest, from the bytes of SHA256SUMS; each table of digests has exactly one valid text.

    Raises:
        BundleError: a line is malformed, or a path leaves the bundle, is out of order or occurs twice.
    """
    try:
        # Bytes and one kind of line end: text mode and splitlines() would accept changed line ends.
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"{SHA256SUMS} is not UTF-8 text: {error}") from error
    if lines.pop() != "":
        raise BundleError(f"{SHA256SUMS} does not end with a line feed.")
    digests: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = re.fullmatch(r"([0-9a-f]{64})  (\S.*)", line)
        if match is None:
            raise BundleError(f"{SHA256SUMS} line {number} is not '<64 hexadecimal digits>  <path>'.")
        check_path(match[2], f"{SHA256SUMS} line {number}")
        if match[2] in digests:
            raise BundleError(f"{SHA256SUMS} lists {match[2]} twice.")
        digests[match[2]] = match[1]
    if list(digests) != sorted(digests):
        raise BundleError(f"{SHA256SUMS} is not sorted by path.")
    return digests


def check_digests(folder: Path) -> None:
    """Compare every file with SHA256SUMS.

    Raises:
        BundleError: see `parse_digests`; or there is a link, or a missing, extra or changed file.
    """
    sums = folder / SHA256SUMS
    if not sums.is_file():
        raise BundleError(f"{folder} holds no {SHA256SUMS}: nothing in it can be trusted.")
    digests = parse_digests(sums.read_bytes())
    present = _files_in(folder) - {SHA256SUMS, SIGNATURE}
    if missing := sorted(set(digests) - present):
        raise BundleError(f"The bundle is incomplete: {', '.join(missing)} is missing.")
    if extra := sorted(present - set(digests)):
        raise BundleError(f"The bundle holds files that {SHA256SUMS} does not list: {', '.join(extra)}.")
    for name, digest in digests.items():
        if sha256_file(folder / name) != digest:
            raise BundleError(f"{name} has changed since the bundle was written (SHA-256 differs).")


def check_path(name: str, where: str) -> None:
    """Check that ``name`` is a plain relative path inside the bundle.

    Raises:
        BundleError: it is not; the message starts with ``where``.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or str(path) != name:
        raise BundleError(f"{where} is not a plain path inside the bundle: {name!r}.")


def _files_in(folder: Path) -> set[str]:
    names = set()
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise BundleError(f"The bundle holds a link, which could lead out of it: {path.name}.")
        if path.is_file():
            names.add(path.relative_to(folder).as_posix())
    return names
