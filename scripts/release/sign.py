"""Sign the digests of a release: ``SHA256SUMS.sig`` beside ``SHA256SUMS``, as bundles are signed (Ed25519).

python scripts/release/sign.py SHA256SUMS release.key      (SONOEDGE_KEY_PASSWORD if the key has a password)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sonoedge.edge_runtime.bundle.signature import sign_file

if __name__ == "__main__":
    sums = Path(sys.argv[1])
    password = os.environ.get("SONOEDGE_KEY_PASSWORD", "").encode() or None
    signature = sign_file(sums, sums.with_name(f"{sums.name}.sig"), Path(sys.argv[2]), password)
    print(f"signed with the key {signature.key}")
