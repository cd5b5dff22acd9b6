"""``sonoedge gate``: describe the training features, so that the device can refuse what it has never seen.

Adds ``domain.npz`` to a bundle (see `edge_runtime.domain`) and renews SHA256SUMS. Statistics come from the
training images, two limits per artifact from the validation images; nothing else is looked at. Both sets also as
other scanners and settings might show them (`export.views`): else every picture of another scanner is refused.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends import is_available
from edge_runtime.bundle import MANIFEST, Bundle, load_bundle, write_manifest
from edge_runtime.classifier import Classifier
from edge_runtime.domain import DOMAIN, Domain, DomainGate, features_of, load_gate, standardise
from edge_runtime.errors import DataError, MissingExtraError, UsageError
from edge_runtime.files import atomic_directory, write_bytes_atomic
from edge_runtime.freshness import dated
from edge_runtime.image import find_images, read_image
from edge_runtime.trust import without_policy
from export.views import another_view

DIRECTIONS = 64
VIEWS = 4
"""Views of each validation image; of each training image there is one."""
BEYOND = 0.01
"""Share of the validation views that lies beyond the limit of refusal."""
SIGMAS = 2.0
"""The limit of flagging: mean plus two standard deviations of the validation images' log distance."""

Features = NDArray[np.float32]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--bundle", type=Path, default=Path("bundle"), help="bundle folder (default: ./bundle)")
    parser.add_argument("--model", type=Path, metavar="RUN", help="run folder (default: the newest under ./runs)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the run's images are now")
    parser.add_argument("--artifacts", metavar="A,B", help="default: every one that can run here")
    parser.add_argument("--check", type=Path, nargs="+", metavar="DIR", help=(
        "change nothing: rates of the run's test images and of each folder, and the AUC between them"
    ))  # fmt: skip
    parser.add_argument("--grey", action="store_true", help="with --check: folders' images in grey, as B-mode is")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the limits as one JSON object")
    parser.epilog = (
        "examples:\n"
        "  sonoedge gate --bundle bundle --model runs/busi\n"
        "  sonoedge gate --bundle bundle --model runs/busi --check photos/ other_hospital/"
    )


def run(args: argparse.Namespace) -> int:
    """Add the gate to a bundle; the old bundle stays until the new one is complete."""
    from export.calibration import load_run_data
    from train.run_folder import newest_run, open_run

    bundle = without_policy(load_bundle(args.bundle))
    data = load_run_data(open_run(args.model or newest_run()), args.data)
    if args.check:
        test = [sample.path for sample in data["test"].samples]
        return check(bundle, names_of(args, bundle)[0], test, args)
    train, validation = ([sample.path for sample in data[part].samples] for part in ("train", "val"))
    runnable = names_of(args, bundle)
    # Float features describe the images best; every artifact then gets the threshold of its own numerics.
    reference = next((n for n in runnable if bundle.artifact(n).precision == "fp32"), runnable[0])
    classifier = Classifier(bundle, reference)
    features = [pooled_features(classifier, train, view=view, quiet=args.quiet) for view in (None, 0)]
    gate = fit_gate(np.concatenate(features), bundle)
    limits = {}
    for name in runnable:
        own = classifier if name == reference else Classifier(bundle, name)
        plain = pooled_features(own, validation, quiet=args.quiet)
        views = [pooled_features(own, validation, view=view, quiet=args.quiet) for view in range(VIEWS)]
        limits[name] = limits_of(gate, plain, np.concatenate(views))
    add_gate(bundle, gate, limits)
    if args.json:
        body = {name: asdict(limit) for name, limit in limits.items()}
        print(json.dumps({"bundle": str(args.bundle), "reference": reference, "limits": body}))
    else:
        print(f"{DOMAIN}: {len(train)} training images through {reference}, {len(gate.components)} directions")
        for name, limit in limits.items():
            print(
                f"  {name:<16} flags above {limit.warning:.3f}, refuses above {limit.threshold:.3f} "
                f"({len(validation)} validation images)"
            )
    return 0


def names_of(args: argparse.Namespace, bundle: Bundle) -> list[str]:
    """The artifacts asked for that can run here."""
    names = args.artifacts.split(",") if args.artifacts else [a.name for a in bundle.artifacts]
    runnable = [name for name in names if is_available(bundle.artifact(name).runtime)]
    if not runnable:
        raise MissingExtraError("An interpreter for this bundle", "litert")
    return runnable


def check(bundle: Bundle, artifact: str, test: list[Path], args: argparse.Namespace) -> int:
    """Print how many images of each folder the stored gate refuses."""
    gate = load_gate(bundle, artifact)
    if gate is None:
        raise UsageError(f"The bundle has no gate for {artifact}: run without --check first.")
    classifier = Classifier(bundle, artifact)
    inside = distances(gate, pooled_features(classifier, test, quiet=args.quiet))
    rows = [_row("test", inside, gate, None)]
    for folder in args.check:
        if not (paths := find_images(folder)):
            raise DataError(f"No images in {folder}.")
        outside = distances(gate, pooled_features(classifier, paths, quiet=args.quiet, grey=args.grey))
        rows.append(_row(str(folder), outside, gate, inside))
    if args.json:
        limits = {"warning": gate.warning, "threshold": gate.threshold}
        print(json.dumps({"artifact": artifact, **limits, "sets": rows}))
        return 0
    print(f"{artifact}: flagged above {gate.warning:.3f}, refused above {gate.threshold:.3f}")
    print(f"{'images':<40}{'n':>6}{'refused':>9}{'flagged':>9}{'median':>9}{'AUC against test':>18}")
    for row in rows:
        auc = "" if row["auc"] is None else f"{row['auc']:.4f}"
        shares = f"{row['refused']:>9.1%}{row['flagged']:>9.1%}"
        print(f"{row['images'][-39:]:<40}{row['n']:>6}{shares}{row['median']:>9.2f}{auc:>18}")
    return 0


def _row(name: str, values: NDArray[np.float64], gate: DomainGate, inside: NDArray[np.float64] | None) -> dict:
    auc = None
    if inside is not None:
        # The probability that an image of this set lies farther out than a test image, ties by half.
        pairs = np.sign(values[:, None] - inside[None]) / 2 + 0.5
        auc = round(float(pairs.mean()), 4)
    verdicts = [Domain(float(value), gate.threshold, gate.warning) for value in values]
    refused = np.mean([not verdict.inside for verdict in verdicts])
    flagged = np.mean([verdict.inside and not verdict.usual for verdict in verdicts])
    return {
        "images": name,
        "n": len(values),
        "refused": float(refused),
        "flagged": float(flagged),
        "median": float(np.median(values)),
        "auc": auc,
    }


def pooled_features(
    classifier: Classifier,
    paths: Iterable[Path],
    *,
    view: int | None = None,
    quiet: bool = True,
    grey: bool = False,
) -> Features:
    """Features of image files, or of a view of each (see `edge_runtime.domain.features_of`): float32 (N, C)."""
    from tqdm import tqdm

    rows = []
    paths = list(paths)
    for path in tqdm(paths, desc=classifier.artifact.name, unit="image", disable=quiet):
        image = read_image(path)
        if grey:
            image = np.repeat(np.rint(image.mean(axis=2, keepdims=True)).astype(np.uint8), 3, axis=2)
        if view is not None:
            image = another_view(image, (zlib.crc32(image.tobytes()), view))
        outputs = classifier.explain_raw(image)[1]
        rows.append(features_of(outputs, [branch.name for branch in classifier.bundle.branches]))
    return np.stack(rows).astype(np.float32)


def fit_gate(features: Features, bundle: Bundle, *, directions: int = DIRECTIONS) -> DomainGate:
    """Probabilistic PCA of standardised features (N, C); the limits are not set yet (NaN).

    Raises:
        DataError: too few images for a covariance.
    """
    count, channels = features.shape
    if count < 8:
        raise DataError(f"The gate needs at least 8 training images. Received: {count}.")
    directions = min(directions, count // 2, channels - 1)
    x = features.astype(np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0)
    # A channel that never moves in training would turn any whiff of it into an alarm: a floor from the others.
    std = np.maximum(std, max(0.05 * float(np.median(std)), 1e-6))
    z = standardise(x, mean, 1.0 / std)
    _, singular, components = np.linalg.svd(z, full_matrices=False)
    eigenvalues = singular**2 / (count - 1)
    noise = max(float(eigenvalues[directions:].sum()) / (channels - directions), 1e-3)
    return DomainGate(
        branches=tuple(branch.name for branch in bundle.branches),
        widths=tuple(branch.channels for branch in bundle.branches),
        mean=mean.astype(np.float32),
        inverse_std=(1.0 / std).astype(np.float32),
        components=components[:directions].astype(np.float16).astype(np.float32),
        variances=np.maximum(eigenvalues[:directions], noise).astype(np.float32),
        noise=noise,
        threshold=float("nan"),
        warning=float("nan"),
    )


@dataclass(frozen=True)
class Limits:
    """Distances above which an image is flagged and refused."""

    warning: float
    threshold: float


def limits_of(gate: DomainGate, validation: Features, views: Features) -> Limits:
    """Limits from features (N, C) of the validation images, and of other views of them."""
    logs = np.log(np.maximum(distances(gate, validation), 1e-12))
    threshold = float(np.quantile(distances(gate, views), 1 - BEYOND, method="higher"))
    return Limits(min(float(np.exp(logs.mean() + SIGMAS * logs.std())), threshold), threshold)


def add_gate(bundle: Bundle, gate: DomainGate, limits: dict[str, Limits]) -> Bundle:
    """Publish the bundle again with ``domain.npz`` in it; an old one is replaced."""
    with atomic_directory(bundle.path, marker=MANIFEST) as folder:
        shutil.copytree(bundle.path, folder, dirs_exist_ok=True)
        write_bytes_atomic(folder / DOMAIN, pack(gate, limits))
        staged = dated(Bundle(**{**vars(bundle), "path": folder}))
        write_manifest(staged)
        for name in limits:
            load_gate(load_bundle(folder), name)
    return load_bundle(bundle.path)


def pack(gate: DomainGate, limits: dict[str, Limits]) -> bytes:
    """The bytes of domain.npz."""
    arrays: dict[str, Any] = {
        "branches": np.asarray(gate.branches),
        "mean": gate.mean,
        "inverse_std": gate.inverse_std,
        "components": gate.components.astype(np.float16),
        "variances": gate.variances,
        "noise": np.float32(gate.noise),
    }
    arrays |= {f"threshold.{name}": np.float32(limit.threshold) for name, limit in limits.items()}
    arrays |= {f"warning.{name}": np.float32(limit.warning) for name, limit in limits.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def distances(gate: DomainGate, features: Sequence[Features] | Features) -> NDArray[np.float64]:
    """The distance of each row of pooled features (N, C)."""
    return np.array([gate.distance(row) for row in features])
