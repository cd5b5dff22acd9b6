"""Pack an sdist again so that its bytes depend on its content only: names in order, one time, no owner.

SOURCE_DATE_EPOCH=… python scripts/release/normal.py sonoedge-1.2.3.tar.gz OUT
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import tarfile
from pathlib import Path


def packed(source: Path, seconds: int) -> bytes:
    """The bytes of a .tar.gz with the files of ``source``."""
    buffer = io.BytesIO()
    with tarfile.open(source) as old, tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            if not (member.isfile() or member.isdir()):
                raise SystemExit(f"{source.name} holds {member.name}, which is neither a file nor a folder")
            member.mtime, member.uid, member.gid, member.uname, member.gname = seconds, 0, 0, "", ""
            member.mode, member.pax_headers = 0o755 if member.isdir() or member.mode & 0o100 else 0o644, {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(buffer.getvalue(), mtime=seconds)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    (Path(sys.argv[2]) / path.name).write_bytes(packed(path, int(os.environ["SOURCE_DATE_EPOCH"])))
