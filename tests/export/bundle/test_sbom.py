"""The software bill of materials of an export."""

from __future__ import annotations

import json
from pathlib import Path

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS
from sonoedge.edge_runtime.bundle.contract import SBOM
from sonoedge.edge_runtime.bundle.manifest import load_bundle


def test_sbom_of_an_export(run_bundle: Path) -> None:
    body = json.loads((run_bundle / SBOM).read_text(encoding="utf-8"))
    assert (body["bomFormat"], body["specVersion"]) == ("CycloneDX", "1.6")
    packages = {c["name"]: c["version"] for c in body["components"] if c["type"] == "library"}
    versions = load_bundle(run_bundle).provenance["versions"]
    assert {name: packages[name] for name in ("keras", "tensorflow")} == {
        name: versions[name] for name in ("keras", "tensorflow")
    }
    references = {c["bom-ref"] for c in body["components"]}
    assert set(body["dependencies"][0]["dependsOn"]) == references
    artifacts = {c["name"] for c in body["metadata"]["component"]["components"]}
    assert artifacts == {a.name for a in load_bundle(run_bundle).artifacts}
    assert SBOM in (run_bundle / SHA256SUMS).read_text()
