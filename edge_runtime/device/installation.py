"""Bundles installed on a device: a folder of whole versions, and one link to the version in use.

    DIR/
      current                                     -> versions/0002-after-0001-3f9c…
      versions/0001-after-0000-88a1…              a bundle; the digits are the start of its digest
      versions/0002-after-0001-3f9c…

All of the state is in the target of ``current``, which a rename replaces in one step: whenever the process or the
power ends, ``current`` is the old bundle or the new one, and both are whole. The name of a version says which
version was in use before it; `Installation.back` follows that. A version gets its name only once it is complete,
checked and on the disk, and loses it before it is removed; at other times its name starts with a dot.

A long-lived reader (``sonoedge serve``) follows the link once and holds a shared lock on its version
(`edge_runtime.files.keep_from_removal`): it keeps the files it started with, however often ``current`` moves.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, SIGNATURE, bundle_digest, parse_digests
from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.errors import BundleError, DataError, UsageError
from sonoedge.edge_runtime.files import copy_synced, owned, sync_folder

CURRENT, VERSIONS = "current", "versions"
KEEP = 2
"""Versions that stay: the current one and the one before it, for a way back."""
_NAME = re.compile(r"(\d{4,})-after-(\d{4,})-[0-9a-f]{16}")
_TEMPORARY = ".sonoedge-tmp"
_SPARE_BYTES = 1 << 20


@dataclass(frozen=True, order=True)
class Version:
    """One version: its number, the number of the version that was in use before it (0 for none), its folder."""

    number: int
    after: int
    path: Path


class Installation:
    """The folder of installed bundles. Whatever changes it works within `locked`.

    Args:
        root: the folder; it need not exist.

    Raises:
        UsageError: it is a file, or holds other things than installed bundles.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.link, self.versions_folder = root / CURRENT, root / VERSIONS
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file. --to names the folder of the installed bundles.")
        if self.link.exists() and not self.link.is_symlink():
            raise UsageError(
                f"{self.link} is no link: `sonoedge install` did not make {root}. Name another folder."
            )
        ours = self.link.is_symlink() or self.versions_folder.is_dir()
        if root.is_dir() and not ours and any(root.iterdir()):
            raise UsageError(f"{root} holds other files and no installed bundle. Name a new or an empty folder.")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, keep other installs out, and remove what killed ones left.

        Raises:
            UsageError: another install works in the folder.
        """
        self.versions_folder.mkdir(parents=True, exist_ok=True)
        with owned(self.root) as ours:
            if not ours:
                raise UsageError(f"Another `sonoedge install` works in {self.root}. Try again when it has ended.")
            for link in self.root.glob(f".*{_TEMPORARY}"):
                link.unlink()
            for folder in self.versions_folder.glob(f".*{_TEMPORARY}"):
                shutil.rmtree(folder)
            yield

    def versions(self) -> list[Version]:
        """All versions, by number."""
        found = []
        for path in self.versions_folder.iterdir() if self.versions_folder.is_dir() else ():
            if (match := _NAME.fullmatch(path.name)) and path.is_dir():
                found.append(Version(int(match[1]), int(match[2]), path))
        return sorted(found)

    def current(self) -> Version | None:
        """The version in use; None before the first install."""
        if not self.link.is_symlink():
            return None
        target = self.link.readlink()
        return next((one for one in self.versions() if target == Path(VERSIONS, one.path.name)), None)

    def back(self) -> list[Version]:
        """The version in use and those before it, the newest first."""
        by_number = {one.number: one for one in self.versions()}
        chain, step = [], self.current()
        while step is not None:
            chain.append(step)
            step = by_number.get(step.after) if step.after < step.number else None
        return chain

    def add(self, source: Bundle, check: Callable[[Bundle], None], keep: int) -> Version:
        """Copy a bundle, check the copy, make it current and remove old versions. Call this within `locked`.

        A bundle that is current already is only checked.

        Args:
            source: the bundle, with its digests checked.
            check: what the copy must pass before it becomes current; it raises an error if it does not.
            keep: how many versions stay.

        Raises:
            BundleError: the source changed while it was copied.
            DataError: there is no space for the copy.
            SonoEdgeError: whatever ``check`` raises; the current bundle is as before.
        """
        current = self.current()
        if current is not None and _same(source.path, current.path):
            try:
                installed = load_bundle(current.path)
            except BundleError:
                # The copy is damaged: it is replaced, and never the way back.
                current = next(iter(self.back()[1:]), None)
            else:
                check(installed)
                self._prune(keep)
                return current
        version = self._copy(source, check, current)
        self.switch(version)
        self._prune(keep)
        return version

    def _copy(self, source: Bundle, check: Callable[[Bundle], None], current: Version | None) -> Version:
        digest = bundle_digest(source.path)
        number = max((one.number for one in self.versions()), default=0) + 1
        after = current.number if current else 0
        path = self.versions_folder / f"{number:04}-after-{after:04}-{digest[:16]}"
        staging = path.with_name(f".{path.name}{_TEMPORARY}")
        names = [*parse_digests((source.path / SHA256SUMS).read_bytes()), SHA256SUMS]
        names += [SIGNATURE] if (source.path / SIGNATURE).is_file() else []
        needed = sum((source.path / name).stat().st_size for name in names) + _SPARE_BYTES
        free = shutil.disk_usage(self.root).free
        if free < needed:
            raise DataError(f"{self.root} has {free / 1e6:.1f} MB free; the bundle needs {needed / 1e6:.1f} MB.")
        try:
            for name in names:
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                copy_synced(source.path / name, staging / name)
            for folder in [*(p for p in staging.rglob("*") if p.is_dir()), staging]:
                sync_folder(folder)
            copied = load_bundle(staging)
            if bundle_digest(staging) != digest:
                raise BundleError(f"{source.path} changed while it was copied.")
            check(copied)
            staging.rename(path)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        sync_folder(self.versions_folder)
        return Version(number, after, path)

    def switch(self, version: Version) -> None:
        """Make a version the current one, in one step. Call this within `locked`."""
        new = self.root / f".{CURRENT}.{secrets.token_hex(4)}{_TEMPORARY}"
        new.symlink_to(f"{VERSIONS}/{version.path.name}", target_is_directory=True)
        new.replace(self.link)
        sync_folder(self.root)

    def _prune(self, keep: int) -> None:
        """Remove versions that are not among the newest ``keep`` of the way back and that no process has open."""
        kept = {one.number for one in self.back()[:keep]}
        for one in self.versions():
            if one.number not in kept:
                # A version that is removed half-way must not have its name any more.
                doomed = one.path.with_name(f".{one.path.name}{_TEMPORARY}")
                with suppress(OSError), owned(one.path) as free:
                    if free:
                        one.path.rename(doomed)
                        shutil.rmtree(doomed)


def _same(source: Path, installed: Path) -> bool:
    """Whether both bundles have the same digests and the same signature."""

    def identity(folder: Path) -> list[bytes]:
        return [path.read_bytes() if (path := folder / name).is_file() else b"" for name in (SHA256SUMS, SIGNATURE)]

    return identity(source) == identity(installed)
