"""The bundle of a cascade: the full model's bundle, with the cheap model's bundle in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sonoedge.edge_runtime.bundle.contract import MANIFEST, Bundle, CascadeSpec
from sonoedge.edge_runtime.bundle.freshness import dated
from sonoedge.edge_runtime.bundle.manifest import load_bundle, write_manifest
from sonoedge.edge_runtime.bundle.trust import without_policy
from sonoedge.edge_runtime.model.cascade import Cascade
from sonoedge.train.folders import atomic_directory


def write_cascade(
    first: Bundle,
    full: Bundle,
    spec: CascadeSpec,
    out: Path,
    *,
    threads: int | None = None,
    finish: Callable[[Cascade], CascadeSpec] | None = None,
) -> Bundle:
    """Write the full model's bundle with the cheap model's bundle in it; it is published when both open.

    Args:
        first: bundle of the cheap model.
        full: bundle of the full model.
        spec: the section of bundle.json.
        out: folder to create.
        threads: of the interpreters; None: their default.
        finish: gets the open cascade and returns the section that is published instead of ``spec``.

    Raises:
        BundleError: the bundles do not fit each other.
        UsageError: ``out`` holds something else.
    """
    with atomic_directory(out, marker=MANIFEST) as folder:
        shutil.copytree(full.path, folder, dirs_exist_ok=True)
        shutil.copytree(first.path, folder / spec.first)
        (folder / "SHA256SUMS.sig").unlink(missing_ok=True)  # signs the old bundle
        write_manifest(dated(replace(full, path=folder, cascade=spec)))
        draft = Cascade(without_policy(load_bundle(folder)), threads=threads)
        if finish is not None:
            write_manifest(dated(replace(full, path=folder, cascade=finish(draft))))
            load_bundle(folder)
    return load_bundle(out)
