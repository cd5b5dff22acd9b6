"""The digest of SonoEdge's own code: two installations with the same digest run the same program."""

from __future__ import annotations

import hashlib
from pathlib import Path

PARTS = ("edge_runtime", "train", "export", "benchmarks")


def source_digest(root: Path | None = None) -> str:
    """SHA-256 over names and contents of all Python files; the same in a checkout and in its wheel.

    Args:
        root: the folder ``sonoedge``; by default the one that this module belongs to.
    """
    root = root or Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for part in PARTS:
        # In a checkout a part may be a link, which a search does not follow.
        folder = (root / part).resolve()
        for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
            content = path.read_bytes()
            digest.update(f"{part}/{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()
