"""Change every byte of every file of a bundle to each of its 255 other values: all changes must be noticed.

    python scripts/checks/bytes.py BUNDLE      (a tiny one; time grows with bytes x 255)

The script works on a copy, in memory-backed storage if there is some. After a change it checks only what the file
can influence: all digests for SHA256SUMS, the signature alone for the signature file, its own digest for any other
file.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, SIGNATURE, parse_digests
from sonoedge.edge_runtime.bundle.signature import read_signature
from sonoedge.edge_runtime.bundle.trust import load_trusted
from sonoedge.edge_runtime.errors import BundleError


def main() -> int:
    """Try all changes and print the count; exit code 1 if one is not noticed."""
    source = Path(sys.argv[1])
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        bundle = Path(scratch) / "bundle"
        shutil.copytree(source, bundle)
        load_trusted(bundle)
        digests = parse_digests((bundle / SHA256SUMS).read_bytes())
        tried = missed = 0
        for path in sorted(p for p in bundle.rglob("*") if p.is_file()):
            name = path.relative_to(bundle).as_posix()
            whole = bytearray(path.read_bytes())
            for index, original in enumerate(whole):
                for value in range(256):
                    if value == original:
                        continue
                    whole[index] = value
                    tried += 1
                    missed += not noticed(bundle, name, bytes(whole), digests)
                whole[index] = original
            path.write_bytes(whole)
            print(f"{name}: {len(whole):,} bytes", flush=True)
    print(f"{tried:,} single-byte changes, {missed} not noticed")
    return int(missed > 0)


def noticed(bundle: Path, name: str, data: bytes, digests: dict[str, str]) -> bool:
    """Whether a bundle with this content of one file is refused."""
    if name == SHA256SUMS:
        try:
            return parse_digests(data) != digests  # then a digest or a path fits no file
        except BundleError:
            return True
    if name == SIGNATURE:
        (bundle / name).write_bytes(data)
        try:
            read_signature(bundle)
        except BundleError:
            return True
        return False
    return hashlib.sha256(data).hexdigest() != digests[name]


if __name__ == "__main__":
    sys.exit(main())
