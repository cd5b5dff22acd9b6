"""`make_cascade`: two bundles -> one, in which a cheap model answers where it is sure.

The cascade is fitted on validation images only (`export.cascade.fit`), and counted and timed on test images.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.bundle.contract import MANIFEST, CascadeSpec
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.bundle.trust import without_policy
from sonoedge.edge_runtime.errors import BundleError, UsageError
from sonoedge.edge_runtime.model.cascade import Cascade, check_pair, logit_threshold
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.export.cascade.bundle import write_cascade
from sonoedge.export.cascade.fit import AGREEMENT, counted, fit_cascade
from sonoedge.export.cascade.measure import FIRST, logits_of, samples_of, timings
from sonoedge.train.folders import check_replaceable

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class CascadeBundle:
    """A cascade on disk; it can stand wherever the path of a bundle is taken.

    Attributes:
        path: its folder.
        first, full: names of the two artifacts.
        measured: what it keeps and what it saves, as in bundle.json.
        intended_use: of the bundle.
    """

    path: Path
    first: str
    full: str
    measured: Mapping[str, Any]
    intended_use: str

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def to_json(self) -> dict[str, Any]:
        """Path, artifacts and what was measured as plain JSON types."""
        return {"bundle": str(self.path), "first": self.first, "full": self.full, **self.measured}


def make_cascade(
    first: StrPath,
    full: StrPath,
    *,
    data: StrPath,
    out: StrPath,
    agreement: float = AGREEMENT,
    first_artifact: str | None = None,
    full_artifact: str | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> CascadeBundle:
    """Fit, measure and write; the new bundle appears when it has been read back.

    Args:
        first, full: bundles of the cheap and of the full model.
        data: the images of the training run.
        out: folder of the new bundle.
        agreement: share of the full model's decisions to keep, above 0.5, up to 1.
        first_artifact, full_artifact: None: the first of its bundle.
        threads: of the interpreters; None: their default.
        progress: show bars.

    Raises:
        BundleError: a bundle is damaged, or they do not fit each other.
        DataError: the images are not those of the run, or are too few.
        UsageError: an option does not fit, or ``out`` holds something else.
    """
    from sonoedge.train.data.dataset import group_scan, scan_folder

    if not 0.5 < agreement <= 1:
        raise UsageError(f"--agreement is a share above 0.5, up to 1. Received: {agreement}.")
    target = Path(out)
    check_replaceable(target, marker=MANIFEST)
    cheap, whole = (without_policy(load_bundle(Path(path))) for path in (first, full))
    check_pair(cheap, whole)
    if whole.cascade is not None:
        raise BundleError(f"{whole.path} is a cascade itself; name the bundle of its full model.")
    names = [
        given or bundle.artifacts[0].name for given, bundle in ((first_artifact, cheap), (full_artifact, whole))
    ]
    models = (Classifier(cheap, names[0], threads=threads), Classifier(whole, names[1], threads=threads))
    # All images of the folder: the bundles say which of them they know, whatever their runs left out.
    scan = scan_folder(Path(data), classes=whole.labels, skip_unreadable=True)
    group_of = {s.sha256: s.group for s in group_scan(scan).samples}
    by_digest = {s.sha256: replace(s, group=group_of.get(s.sha256, s.sha256)) for s in scan.dataset.samples}
    samples = {subset: samples_of(subset, by_digest, cheap, whole) for subset in ("val", "test")}
    groups = {subset: [s.group for s in own] for subset, own in samples.items()}
    logits = {
        subset: logits_of(models, [s.path for s in own], subset, quiet=not progress)
        for subset, own in samples.items()
    }
    threshold = models[1].artifact.threshold
    if not 0 < threshold < 1:
        raise UsageError(f"The full model's threshold must lie between 0 and 1. Received: {threshold}.")
    cut = logit_threshold(threshold)
    fit = fit_cascade(*logits["val"], cut, agreement)
    spec = CascadeSpec(FIRST, names[0], names[1], fit.scale, fit.offset, fit.margin, {})
    measured: dict[str, Any] = {
        "wanted_agreement": agreement,
        "validation": {
            **counted(spec, *logits["val"], cut, groups["val"]),
            "expected_agreement": round(fit.expected_agreement, 5),
        },
    }
    if samples["test"]:
        measured["test"] = counted(spec, *logits["test"], cut, groups["test"])

    def timed(draft: Cascade) -> CascadeSpec:
        measured["latency_ms"], against_float = timings(
            draft, samples["test"] or samples["val"], threads=threads, quiet=not progress
        )
        measured["test" if samples["test"] else "validation"] |= against_float
        return replace(spec, metrics=measured)

    bundle = write_cascade(cheap, whole, spec, target, threads=threads, finish=timed)
    return CascadeBundle(bundle.path, names[0], names[1], measured, bundle.intended_use)
