"""``sbom.cdx.json`` of a release: the two files with their digests, and the locked packages (CycloneDX 1.6).

python scripts/release/sbom.py DIST
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sonoedge.edge_runtime import __version__
from sonoedge.edge_runtime.files import sha256_file
from sonoedge.export.bundle.sbom import cyclonedx, library

ROOT = Path(__file__).resolve().parents[2]


def sbom(dist: Path, locked: str) -> dict[str, Any]:
    """The same files and the same lock give the same text: its number comes from the content."""
    files = [
        {
            "type": "file",
            "bom-ref": path.name,
            "name": path.name,
            "hashes": [{"alg": "SHA-256", "content": sha256_file(path)}],
        }
        for path in sorted([*dist.glob("*.tar.gz"), *dist.glob("*.whl")])
    ]
    packages = [
        library(re.sub(r"[-_.]+", "-", name).lower(), number) | {"name": name, "scope": "optional"}
        for name, number in re.findall(r"^([\w.-]+)==(\S+)$", locked, re.MULTILINE)
    ]
    component = {
        "type": "application", "bom-ref": "sonoedge", "name": "sonoedge", "version": __version__,
        "licenses": [{"license": {"id": "MIT"}}], "components": files,
    }  # fmt: skip
    return cyclonedx({
        "metadata": {"component": component, "lifecycles": [{"phase": "build"}]}, "components": packages,
    })  # fmt: skip


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = sbom(folder, (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    (folder / "sbom.cdx.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
