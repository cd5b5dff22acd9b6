"""``sonoedge cascade``: put a cheap model in front of a full one, in one bundle.

The cascade is fitted on validation images only (`export.cascade.fit`), and counted and timed on test images.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.bundle.contract import MANIFEST, Bundle, CascadeSpec
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.bundle.trust import without_policy
from sonoedge.edge_runtime.commands.options import DATA, JSON, OUT, QUIET, add_threads
from sonoedge.edge_runtime.errors import BundleError, UsageError
from sonoedge.edge_runtime.model.cascade import Cascade, check_pair, logit_threshold
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.export.cascade import AGREEMENT
from sonoedge.train.folders import check_replaceable
from sonoedge.train.tables import Column, fitted

_COLUMNS = (
    Column("", 12, left=True), Column("images", 8), Column("full model asked", 18), Column("agreement with it", 28),
    Column("(95 % interval by group)", left=True),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge cascade``."""
    parser.add_argument("--first", type=Path, required=True, metavar="BUNDLE", help="of the cheap model")
    parser.add_argument("--full", type=Path, required=True, metavar="BUNDLE", help="of the full model")
    DATA.add(parser, "those of the training run", type=Path, required=True)
    OUT.add(parser, "the bundle with both", required=True)
    parser.add_argument("--agreement", type=float, default=AGREEMENT, metavar="X", help=(
        "share of the full model's decisions to keep (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--first-artifact", metavar="NAME", help="default: the first of its bundle")
    parser.add_argument("--full-artifact", metavar="NAME", help="default: the first of its bundle")
    add_threads(parser)
    QUIET.add(parser)
    JSON.add(parser, "what was measured")
    parser.epilog = (
        "Validation images decide where the full model is asked; test images only measure.\n\n"
        "example:\n"
        "  sonoedge cascade --first bundle-lite0 --full bundle --data BUSI --out bundle-cascade\n"
        "  sonoedge predict --bundle bundle-cascade frame.png"
    )


def run(args: argparse.Namespace) -> int:
    """Fit, measure and write; the new bundle appears when it has been read back. Returns the exit code."""
    from sonoedge.export.cascade.bundle import write_cascade
    from sonoedge.export.cascade.fit import counted, fit_cascade
    from sonoedge.export.cascade.measure import FIRST, logits_of, samples_of, timings
    from sonoedge.train.data.dataset import group_scan, scan_folder

    if not 0.5 < args.agreement <= 1:
        raise UsageError(f"--agreement is a share above 0.5, up to 1. Received: {args.agreement}.")
    check_replaceable(args.out, marker=MANIFEST)
    first, full = (without_policy(load_bundle(path)) for path in (args.first, args.full))
    check_pair(first, full)
    if full.cascade is not None:
        raise BundleError(f"{full.path} is a cascade itself; name the bundle of its full model.")
    names = [given or bundle.artifacts[0].name for given, bundle in (
        (args.first_artifact, first), (args.full_artifact, full)
    )]  # fmt: skip
    models = (
        Classifier(first, names[0], threads=args.threads),
        Classifier(full, names[1], threads=args.threads),
    )
    # All images of the folder: the bundles say which of them they know, whatever their runs left out.
    scan = scan_folder(args.data, classes=full.labels, skip_unreadable=True)
    group_of = {s.sha256: s.group for s in group_scan(scan).samples}
    by_digest = {s.sha256: replace(s, group=group_of.get(s.sha256, s.sha256)) for s in scan.dataset.samples}
    samples = {subset: samples_of(subset, by_digest, first, full) for subset in ("val", "test")}
    paths = {subset: [s.path for s in own] for subset, own in samples.items()}
    groups = {subset: [s.group for s in own] for subset, own in samples.items()}
    logits = {subset: logits_of(models, paths[subset], subset, quiet=args.quiet) for subset in paths}
    threshold = models[1].artifact.threshold
    if not 0 < threshold < 1:
        raise UsageError(f"The full model's threshold must lie between 0 and 1. Received: {threshold}.")
    cut = logit_threshold(threshold)
    fit = fit_cascade(*logits["val"], cut, args.agreement)
    spec = CascadeSpec(FIRST, names[0], names[1], fit.scale, fit.offset, fit.margin, {})
    measured = {
        "wanted_agreement": args.agreement,
        "validation": {
            **counted(spec, *logits["val"], cut, groups["val"]),
            "expected_agreement": round(fit.expected_agreement, 5),
        },
    }
    if paths["test"]:
        measured["test"] = counted(spec, *logits["test"], cut, groups["test"])

    def timed(draft: Cascade) -> CascadeSpec:
        measured["latency_ms"], against_float = timings(
            draft, samples["test"] or samples["val"], threads=args.threads, quiet=args.quiet
        )
        measured["test" if paths["test"] else "validation"] |= against_float
        return replace(spec, metrics=measured)

    bundle = write_cascade(first, full, spec, args.out, threads=args.threads, finish=timed)
    if args.json:
        print(json.dumps({"bundle": str(args.out), "first": names[0], "full": names[1], **measured}))
    else:
        print(_table(measured, args.out, bundle))
    return 0


def _over_float(ms: dict[str, float]) -> str:
    if "float_mean" not in ms:
        return ""
    return f" and {ms['speedup_over_float']:.1f} times faster than its float32 file ({ms['float_mean']:.1f} ms)"


def _table(measured: dict[str, Any], out: Path, bundle: Bundle) -> str:
    rows = []
    for subset in ("validation", "test"):
        if row := measured.get(subset):
            low, high = row["agreement_interval"]
            cell = f"{row['agreement']:.2%} [{low:.2%}, {high:.2%}]"
            rows.append([subset, str(row["images"]), f"{row['escalated']:.1%}", cell, ""])
    lines = [fitted(_COLUMNS, rows)]
    ms = measured["latency_ms"]
    lines.append(
        f"mean {ms['cascade_mean']:.1f} ms an image, {ms['speedup']:.1f} times faster than the full model "
        f"({ms['full_mean']:.1f} ms){_over_float(ms)}; where both are asked "
        f"{ms.get('escalated_p50', float('nan')):.1f} ms, the longest {ms['cascade_max']:.1f} ms"
    )
    return "\n".join([*lines, f"wrote {out}", bundle.intended_use])
