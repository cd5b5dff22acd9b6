"""``sonoedge cascade``: put a cheap model in front of a full one, in one bundle.

Fitted on validation images only (see `export.cascade.fit`), counted and timed on test images.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from sonoedge.edge_runtime.bundle.contract import MANIFEST, Bundle, CascadeSpec
from sonoedge.edge_runtime.bundle.freshness import dated
from sonoedge.edge_runtime.bundle.manifest import load_bundle, write_manifest
from sonoedge.edge_runtime.bundle.trust import without_policy
from sonoedge.edge_runtime.errors import BundleError, DataError, UsageError
from sonoedge.edge_runtime.files import atomic_directory, check_replaceable
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.model.answer import Prediction
from sonoedge.edge_runtime.model.cascade import Cascade, check_pair, cut_of
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.export.cascade.fit import AGREEMENT, Float, agreement, counted, fit_cascade

if TYPE_CHECKING:
    from sonoedge.train.data.dataset import Sample

FIRST = "first"
_ROUNDS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--first", type=Path, required=True, metavar="BUNDLE", help="of the cheap model")
    parser.add_argument("--full", type=Path, required=True, metavar="BUNDLE", help="of the full model")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the images of the training run")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="new bundle with both")
    parser.add_argument("--agreement", type=float, default=AGREEMENT, metavar="X", help=(
        "share of the full model's decisions to keep (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--first-artifact", metavar="NAME", help="default: the first of its bundle")
    parser.add_argument("--full-artifact", metavar="NAME", help="default: the first of its bundle")
    parser.add_argument("--threads", type=int, help="interpreter threads (default: cores, at most 4)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print what was measured as one JSON object")
    parser.epilog = (
        "Validation images decide where the full model is asked; test images only measure.\n\n"
        "example:\n"
        "  sonoedge cascade --first bundle-lite0 --full bundle --data BUSI --out bundle-cascade\n"
        "  sonoedge predict --bundle bundle-cascade frame.png"
    )


def run(args: argparse.Namespace) -> int:
    """Fit, measure and write; the new bundle appears when it has been read back."""
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
    # As they lie there: the bundles say which images they know, whatever their runs left out.
    scan = scan_folder(args.data, classes=full.labels, skip_unreadable=True)
    group_of = {s.sha256: s.group for s in group_scan(scan).samples}
    by_digest = {s.sha256: replace(s, group=group_of.get(s.sha256, s.sha256)) for s in scan.dataset.samples}
    samples = {subset: _samples(subset, by_digest, first, full) for subset in ("val", "test")}
    paths = {subset: [s.path for s in own] for subset, own in samples.items()}
    groups = {subset: [s.group for s in own] for subset, own in samples.items()}
    logits = {subset: _logits(models, paths[subset], subset, quiet=args.quiet) for subset in paths}
    threshold = models[1].artifact.threshold
    if not 0 < threshold < 1:
        raise UsageError(f"The full model's threshold must lie between 0 and 1. Received: {threshold}.")
    cut = cut_of(threshold)
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
        measured["latency_ms"], against_float = _timed(draft, samples["test"] or samples["val"], args)
        measured["test" if paths["test"] else "validation"] |= against_float
        return replace(spec, metrics=measured)

    bundle = write_cascade(first, full, spec, args.out, threads=args.threads, finish=timed)
    if args.json:
        print(json.dumps({"bundle": str(args.out), "first": names[0], "full": names[1], **measured}))
    else:
        print(_table(measured, args.out, bundle))
    return 0


def write_cascade(
    first: Bundle,
    full: Bundle,
    spec: CascadeSpec,
    out: Path,
    *,
    threads: int | None = None,
    finish: Callable[[Cascade], CascadeSpec] | None = None,
) -> Bundle:
    """The full model's bundle with the cheap one's in it, published when both open.

    ``finish`` sees them open and gives the section that is published.
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


def _samples(subset: str, by_digest: dict[str, Sample], first: Bundle, full: Bundle) -> list[Sample]:
    """Images that the full model's run calls ``subset`` and that the cheap model was not trained on.

    Raises:
        DataError: no validation images among the data, or the cheap model has seen some.
    """
    wanted = _digests(full, subset)
    seen = _digests(first, "train") | (_digests(first, "val") if subset == "test" else set())
    if overlap := wanted & seen:
        raise DataError(
            f"The cheap model was trained or tuned on {len(overlap)} of the full model's {subset} images: teach it "
            "with the full model's split (sonoedge distill does)."
        )
    digits = len(next(iter(wanted), ""))
    found = [sample for digest, sample in sorted(by_digest.items()) if digest[:digits] in wanted] if digits else []
    if subset == "val" and not found:
        raise DataError("None of these images is a validation image of the full model's run.")
    return found


def _digests(bundle: Bundle, subset: str) -> set[str]:
    training = bundle.provenance.get("training") or {}
    return set((training.get("subsets") or {}).get(subset, ()))


def _logits(
    models: tuple[Classifier, Classifier], paths: list[Path], subset: str, *, quiet: bool
) -> tuple[Float, Float]:
    """Logits (N,) of both models."""
    from tqdm import tqdm

    rows = []
    for path in tqdm(paths, desc=f"both models, {subset}", unit="image", disable=quiet):
        image = read_image(path)
        rows.append([model.explain_raw(image)[0].logit for model in models])
    first, full = np.array(rows, np.float64).reshape(-1, 2).T
    return first, full


def _timed(
    cascade: Cascade, samples: list[Sample], args: argparse.Namespace
) -> tuple[dict[str, float], dict[str, Any]]:
    """Milliseconds from the decoded image to the answer; cascade, full model and its float32 file take turns.

    Also the agreement of the decisions with the float32 file's, where there is one.
    """
    from tqdm import tqdm

    bundle, runtime = cascade.bundle, cascade.artifact.runtime
    float_name = next((a.name for a in bundle.artifacts if (a.runtime, a.precision) == (runtime, "fp32")), None)
    floating = Classifier(bundle, float_name, threads=args.threads) if float_name else None
    times: dict[str, list[float]] = {"cascade": [], "full": [], "float": [], "first": [], "escalated": []}
    labels: list[tuple[str, str]] = []
    paths = [sample.path for sample in samples]
    cascade.full.explain_raw(read_image(paths[0]))
    for turn in range(_ROUNDS):
        for path in tqdm(paths, desc="latency", unit="image", disable=args.quiet):
            image = read_image(path)
            times["full"].append(_milliseconds(cascade.full, image)[0])
            spent, answer = _milliseconds(cascade, image)
            times["cascade"].append(spent)
            times["first" if answer.artifact.startswith(f"{FIRST}/") else "escalated"].append(spent)
            if floating and turn == 0:
                spent, reference = _milliseconds(floating, image)
                times["float"].append(spent)
                labels.append((reference.label, answer.label))
    found = {f"{name}_mean": float(np.mean(spent)) for name, spent in times.items() if spent}
    found |= {f"{name}_p50": float(np.median(spent)) for name, spent in times.items() if spent}
    found |= {"cascade_max": max(times["cascade"]), "speedup": found["full_mean"] / found["cascade_mean"]}
    if not floating:
        return {name: round(value, 3) for name, value in found.items()}, {}
    found["speedup_over_float"] = found["float_mean"] / found["cascade_mean"]
    positive = np.array(labels) == bundle.positive_label
    against_float = agreement(
        "agreement_with_float", positive[:, 0], positive[:, 1], [sample.group for sample in samples]
    )
    return {name: round(value, 3) for name, value in found.items()}, against_float


def _milliseconds(model: Classifier | Cascade, image: UInt8Image) -> tuple[float, Prediction]:
    start = perf_counter()
    prediction, _ = model.explain_raw(image)
    return 1e3 * (perf_counter() - start), prediction


def _over_float(ms: dict[str, float]) -> str:
    if "float_mean" not in ms:
        return ""
    return f" and {ms['speedup_over_float']:.1f} times faster than its float32 file ({ms['float_mean']:.1f} ms)"


def _table(measured: dict[str, Any], out: Path, bundle: Bundle) -> str:
    lines = [f"{'':<12}{'images':>8}{'full model asked':>18}{'agreement with it':>28}  (95 % interval by group)"]
    for subset in ("validation", "test"):
        if row := measured.get(subset):
            low, high = row["agreement_interval"]
            cell = f"{row['agreement']:.2%} [{low:.2%}, {high:.2%}]"
            lines.append(f"{subset:<12}{row['images']:>8}{row['escalated']:>18.1%}{cell:>28}")
    ms = measured["latency_ms"]
    lines.append(
        f"mean {ms['cascade_mean']:.1f} ms an image, {ms['speedup']:.1f} times faster than the full model "
        f"({ms['full_mean']:.1f} ms){_over_float(ms)}; where both are asked "
        f"{ms.get('escalated_p50', float('nan')):.1f} ms, the longest {ms['cascade_max']:.1f} ms"
    )
    return "\n".join([*lines, f"wrote {out}", bundle.intended_use])
