"""What `export` returns: the bundle that was written, with what is promised of each artifact."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.errors import UsageError


@dataclass(frozen=True)
class Promise:
    """Whether an artifact is within the accuracy budget, and what was measured, in words."""

    kept: bool
    text: str


@dataclass(frozen=True)
class ExportedArtifact:
    """One artifact of a bundle.

    Attributes:
        name: of the format.
        precision: of weights and activations: ``fp32``, ``w8a8``, ``mixed``, …
        size_bytes: of all its files.
        threshold: probability from which on an image is called positive.
        metrics: what was measured when it was made, as in bundle.json.
        promise: of its decisions; None for float formats, which agree with Keras within a tolerance.
    """

    name: str
    precision: str
    size_bytes: int
    threshold: float
    metrics: Mapping[str, Any]
    promise: Promise | None


@dataclass(frozen=True)
class ExportedBundle:
    """A bundle on disk. It can stand wherever the path of a bundle is taken: ``Path(bundle)`` is its folder."""

    path: Path
    name: str
    artifacts: tuple[ExportedArtifact, ...]
    intended_use: str

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def artifact(self, name: str) -> ExportedArtifact:
        """The artifact of that name.

        Raises:
            UsageError: there is none; the message lists the names.
        """
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        names = ", ".join(a.name for a in self.artifacts)
        raise UsageError(f"The bundle {self.path} has no artifact {name!r}. It has: {names}.")

    def to_json(self) -> dict[str, Any]:
        """Path and artifacts as plain JSON types."""
        return {
            "bundle": str(self.path),
            "artifacts": [
                {"name": a.name, "precision": a.precision, "size_bytes": a.size_bytes, **a.metrics}
                for a in self.artifacts
            ],
        }


def exported(bundle: Bundle) -> ExportedBundle:
    """What there is to say about a bundle that has just been written."""
    artifacts = []
    for a in bundle.artifacts:
        found = a.metrics.get("promise")
        promise = Promise(found["kept"], found["text"]) if found else None
        artifacts.append(ExportedArtifact(a.name, a.precision, a.size_bytes, a.threshold, dict(a.metrics), promise))
    return ExportedBundle(bundle.path, bundle.name, tuple(artifacts), bundle.intended_use)
