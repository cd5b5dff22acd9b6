"""``sonoedge gate``: give an older bundle the out-of-domain gate that `export` gives every new one, or test a gate.

The command adds ``domain.npz`` to a bundle (see `export.gate.fit`) and renews SHA256SUMS. With ``--check`` it only
measures.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.backends import is_available
from sonoedge.edge_runtime.bundle.contract import MANIFEST, MODEL_CARD, Bundle
from sonoedge.edge_runtime.bundle.freshness import dated
from sonoedge.edge_runtime.bundle.manifest import load_bundle, write_manifest
from sonoedge.edge_runtime.bundle.trust import without_policy
from sonoedge.edge_runtime.commands.options import ARTIFACTS, DATA, JSON, MODEL, QUIET, RUNNABLE, add_bundle
from sonoedge.edge_runtime.errors import BundleError, DataError, MissingExtraError, UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.imaging.image import find_images
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.gate import GATE_FILE, Gate, load_gate
from sonoedge.train.commands.options import add_feature_cache
from sonoedge.train.folders import atomic_directory
from sonoedge.train.tables import Column, fitted

if TYPE_CHECKING:
    from sonoedge.export.gate.fit import FittedGate

_COLUMNS = (
    Column("images", 40, left=True), Column("n", 6), Column("refused", 9), Column("flagged", 9),
    Column("median", 9), Column("AUC against test", 18),
)  # fmt: skip
SIGNATURE = "SHA256SUMS.sig"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge gate``."""
    add_bundle(parser)
    MODEL.add(parser, shown="the newest under ./runs")
    DATA.add(parser, "the run's", type=Path, shown="where the run read them")
    add_feature_cache(parser)
    ARTIFACTS.add(parser, shown=RUNNABLE)
    parser.add_argument("--check", type=Path, nargs="+", metavar="DIR", help=(
        "change nothing: rates of the run's test images and of each folder, and the AUC between them"
    ))  # fmt: skip
    parser.add_argument("--grey", action="store_true", help="with --check: folders' images in grey, as B-mode is")
    QUIET.add(parser)
    JSON.add(parser, "the limits, or what --check found")
    parser.epilog = (
        "`sonoedge export` does this for every bundle of a run; the command is for bundles that lack a gate.\n\n"
        "examples:\n"
        "  sonoedge gate --bundle bundle --model runs/busi\n"
        "  sonoedge gate --bundle bundle --model runs/busi --check photos/ other_hospital/"
    )


def run(args: argparse.Namespace) -> int:
    """Add the gate to a bundle; the old bundle stays until the new one is complete. Returns the exit code."""
    from sonoedge.train.evaluation.run_folder import load_subsets, newest_run, open_run

    bundle = without_policy(load_bundle(args.bundle))
    run_folder = open_run(args.model or newest_run())
    names = names_of(args, bundle)
    data = load_subsets(run_folder, args.data)
    if args.check:
        return check(bundle, names[0], [sample.path for sample in data["test"].samples], args)
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.export.convert.splitting import split_model
        from sonoedge.export.gate.fit import make_gate
        from sonoedge.export.gate.images import copies_of, images_of_run
        from sonoedge.train.features.cache import default_cache
        from sonoedge.train.models.fusion import load_model

        model = split_model(load_model(run_folder.path))
    if model.head.branches != bundle.branches:
        raise BundleError(f"{bundle.path} was not made from the model of {run_folder.path}: its branches differ.")
    images = images_of_run(data, copies_of(run_folder))
    chosen = replace(bundle, artifacts=tuple(bundle.artifact(name) for name in names))
    cache = args.feature_cache or default_cache()
    fitted = make_gate(chosen, model, images, cache=cache, progress=not args.quiet)
    add_gate(bundle, fitted, run_folder.card)
    print(json.dumps({"bundle": str(args.bundle), **fitted.facts}) if args.json else table(fitted))
    return 0


def names_of(args: argparse.Namespace, bundle: Bundle) -> list[str]:
    """The artifacts that are asked for and can run here.

    Raises:
        MissingExtraError: none can run here.
        UsageError: the bundle has no artifact of a name.
    """
    names = args.artifacts.split(",") if args.artifacts else [a.name for a in bundle.artifacts]
    runnable = [name for name in names if is_available(bundle.artifact(name).runtime)]
    if not runnable:
        raise MissingExtraError("An interpreter for this bundle", "litert")
    return runnable


def add_gate(bundle: Bundle, fitted: FittedGate, card: Mapping[str, Any] | None = None) -> Bundle:
    """Publish the bundle again with ``domain.npz`` in it; an old gate is replaced, a signature is removed.

    Args:
        bundle: replaced in its folder.
        fitted: the gate.
        card: the run card; with it the model card is written again.
    """
    from sonoedge.export.bundle.model_card import model_card
    from sonoedge.export.gate.fit import write_gate

    with atomic_directory(bundle.path, marker=MANIFEST) as folder:
        shutil.copytree(bundle.path, folder, dirs_exist_ok=True)
        (folder / SIGNATURE).unlink(missing_ok=True)  # signs the old bundle
        staged = replace(bundle, path=folder, provenance={**bundle.provenance, "gate": fitted.facts})
        write_gate(staged, fitted)
        if card is not None:
            write_text_atomic(folder / MODEL_CARD, model_card(staged, card))
        write_manifest(dated(staged))
        load_bundle(folder)
    return load_bundle(bundle.path)


def table(fitted: FittedGate) -> str:
    """The limits and rates as text."""
    facts = fitted.facts
    lines = [
        f"{GATE_FILE}: {facts['images']} images of the {facts['source']}, {facts['copies']} augmented copies "
        f"of each, {len(fitted.gate.components)} directions"
    ]
    lines += [
        f"  {name:<16} flags above {limit.warning:.3f}, refuses above {limit.threshold:.3f}"
        for name, limit in fitted.limits.items()
    ]
    lines += [
        f"  {subset}: {rate['refused']:.1%} of {rate['images']} images refused, {rate['flagged']:.1%} flagged"
        for subset, rate in facts["rates"].items()
    ]
    return "\n".join(lines)


def check(bundle: Bundle, artifact: str, test: list[Path], args: argparse.Namespace) -> int:
    """Print how many images of each folder the stored gate refuses and flags; returns the exit code.

    Args:
        bundle: with a gate.
        artifact: its name.
        test: test images of the run.
        args: of the command.

    Raises:
        DataError: a folder holds no images.
        UsageError: the bundle has no gate.
    """
    from sonoedge.export.gate.features import file_features
    from sonoedge.export.gate.fit import distances

    gate = load_gate(bundle, artifact)
    if gate is None:
        raise UsageError(f"The bundle has no gate for {artifact}: run without --check first.")
    classifier = Classifier(bundle, artifact)
    inside = distances(gate, file_features(classifier, test, progress=not args.quiet))
    rows = [_row("test", inside, gate, None)]
    for folder in args.check:
        if not (paths := find_images(folder)):
            raise DataError(f"No images in {folder}.")
        outside = distances(gate, file_features(classifier, paths, progress=not args.quiet, grey=args.grey))
        rows.append(_row(str(folder), outside, gate, inside))
    if args.json:
        limits = {"warning": gate.warning, "threshold": gate.threshold}
        print(json.dumps({"artifact": artifact, **limits, "sets": rows}))
        return 0
    print(f"{artifact}: flagged above {gate.warning:.3f}, refused above {gate.threshold:.3f}")
    cells = [
        [r["images"][-39:], str(r["n"]), f"{r['refused']:.1%}", f"{r['flagged']:.1%}", f"{r['median']:.2f}",
         "" if r["auc"] is None else f"{r['auc']:.4f}"]
        for r in rows
    ]  # fmt: skip
    print(fitted(_COLUMNS, cells))
    return 0


def _row(name: str, values: NDArray[np.float64], gate: Gate, inside: NDArray[np.float64] | None) -> dict[str, Any]:
    from sonoedge.export.gate.fit import rates

    auc = None
    if inside is not None:
        # The probability that an image of this set lies farther out than a test image, ties by half.
        pairs = np.sign(values[:, None] - inside[None]) / 2 + 0.5
        auc = round(float(pairs.mean()), 4)
    found = rates(values, gate)
    return {
        "images": name,
        "n": len(values),
        "refused": found["refused"],
        "flagged": found["flagged"],
        "median": float(np.median(values)),
        "auc": auc,
    }
