"""``sbom.cdx.json``: what a bundle was made of and with (CycloneDX 1.6), for inventories and scanners.

The listed packages made the files; of these the device runs its own interpreter only. Digests stand in SHA256SUMS,
training data and settings in ``provenance`` of bundle.json: each fact has one place.
"""

from __future__ import annotations

import json
import platform
import re
import uuid
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from sonoedge.edge_runtime.bundle.contract import Bundle

SPEC_VERSION = "1.6"
"""Version of CycloneDX."""
_EXTRA = "export"


def sbom(bundle: Bundle) -> str:
    """The SBOM as JSON text; the same bundle made with the same packages gives the same text."""
    packages = build_packages()
    components = [library(name, number) for name, number in sorted(packages.items())]
    data = _training_data(bundle)
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": bundle.name,
        "description": bundle.intended_use,
        "modelCard": {
            "modelParameters": {
                "task": "image classification: " + " / ".join(bundle.labels),
                "datasets": [{"ref": item["bom-ref"]} for item in data],
            }
        },
        "components": [
            {
                "type": "machine-learning-model",
                "bom-ref": f"artifact:{artifact.name}",
                "name": artifact.name,
                "description": f"{artifact.runtime}, {artifact.precision}",
            }
            for artifact in bundle.artifacts
        ],
    }
    body = cyclonedx({
        "metadata": {
            "component": model,
            "lifecycles": [{"phase": "build"}],
            "properties": [
                {"name": "sonoedge:python", "value": platform.python_version()},
                {"name": "sonoedge:platform", "value": f"{platform.system()} {platform.machine()}"},
            ],
        },
        "components": [*components, *data],
        "dependencies": [{"ref": "model", "dependsOn": [item["bom-ref"] for item in (*components, *data)]}],
    })  # fmt: skip
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def cyclonedx(content: dict[str, Any]) -> dict[str, Any]:
    """A CycloneDX document with this content; the same content gets the same serial number."""
    body: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        **content,
    }
    # From the content, not from a clock or a random number.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    return {**body, "serialNumber": f"urn:uuid:{serial}"}


def build_packages() -> dict[str, str]:
    """Name -> version of this package with its extra ``export``, and of all that they need, as installed here."""
    found: dict[str, str] = {}
    waiting = [("sonoedge", frozenset({_EXTRA}))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        entry = waiting.pop()
        if entry in seen:
            continue
        seen.add(entry)
        name, extras = entry
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # of another platform or Python version
        waiting += _needed(requires(name) or (), extras)
    return found


def _needed(requirements: Iterable[str], extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    needed = []
    for requirement in requirements:
        head, _, marker = requirement.partition(";")
        asked = set(re.findall(r"""extra\s*==\s*["']([^"']+)["']""", marker))
        match = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?", head)
        if match is None or (asked and not asked & extras):
            continue
        own = frozenset(part.strip() for part in (match[2] or "").split(",") if part.strip())
        needed.append((re.sub(r"[-_.]+", "-", match[1]).lower(), own))
    return needed


def library(name: str, number: str) -> dict[str, Any]:
    """A Python package as a component."""
    purl = f"pkg:pypi/{name}@{number}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": number, "purl": purl}


def _training_data(bundle: Bundle) -> list[dict[str, Any]]:
    training = bundle.provenance.get("training")
    if not training:
        return []
    digest = str(training["dataset_digest"])
    counts = ", ".join(f"{count} {subset}" for subset, count in training["images"].items())
    return [
        {
            "type": "data",
            "bom-ref": "training-data",
            "name": f"images with digest {digest[:16]}",
            "description": f"{counts} images; no image is part of the bundle",
        }
    ]
