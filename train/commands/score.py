"""``sonoedge score``: measure a finished run on other images, by subgroup, and log every scoring.

An external set is for measuring, not for choosing: the log in the run folder tells how often the set was used.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sonoedge.edge_runtime.commands.options import DATA, JSON, MODEL, QUIET, SKIP_UNREADABLE
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.commands.options import add_feature_cache
from sonoedge.train.tables import Column, fitted

if TYPE_CHECKING:
    from sonoedge.train.data.dataset import Dataset
    from sonoedge.train.evaluation.run_folder import Run

LOG = "scorings.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sonoedge score``."""
    MODEL.add(parser, required=True)
    DATA.add(parser, "of the same classes", required=True)
    parser.add_argument("--by", metavar="A,B", help=(
        "columns of the folder's CSV to report by (default: device, scanner, birads where it has them); "
        "lesion size comes from masks"
    ))  # fmt: skip
    SKIP_UNREADABLE.add(parser)
    add_feature_cache(parser, old="--cache")
    QUIET.add(parser)
    JSON.add(parser, "one object")
    parser.epilog = (
        "Images that the run was trained or chosen on, and copies of them, are left out.\n"
        f"Every scoring is added to RUN/{LOG}.\n\n"
        "example:\n"
        "  sonoedge score --model runs/busi --data BUS-BRA --by device,birads"
    )


def run(args: argparse.Namespace) -> int:
    """Score, log and print; returns the exit code."""
    from sonoedge.train.quiet import quiet

    with quiet():
        from sonoedge.train.data.dataset import load_dataset
        from sonoedge.train.evaluation.run_folder import open_run
        from sonoedge.train.features.cache import default_cache

    finished = open_run(args.model)
    dataset = load_dataset(
        args.data, classes=finished.split.labels, skip_unreadable=args.skip_unreadable, progress=not args.quiet
    )
    columns = None if args.by is None else [name.strip() for name in args.by.split(",") if name.strip()]
    result = score(finished, dataset, columns, cache=args.cache or default_cache(), progress=not args.quiet)
    result["time"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    log = finished.path / LOG
    earlier = log.read_text(encoding="utf-8") if log.is_file() else ""
    result["earlier_scorings"] = sum(result["digest"] in line for line in earlier.splitlines())
    write_text_atomic(log, earlier + json.dumps(result) + "\n")
    print(json.dumps(result) if args.json else render(result))
    return 0


def score(
    finished: Run, dataset: Dataset, columns: Sequence[str] | None, *, cache: Path, progress: bool
) -> dict[str, Any]:
    """Metrics with intervals, overall and by subgroup, on images outside the run's training and validation.

    Args:
        finished: the run.
        dataset: images; those that the run has seen are left out.
        columns: of the folder's CSV, see `train.evaluation.subgroups.by_column`.
        cache: folder of cached features.
        progress: show bars.

    Returns:
        Plain JSON types; None for what is undefined.

    Raises:
        UsageError: the folder's CSV lacks a column, or no image is left.
    """
    from sonoedge.train.evaluation.intervals import without_nan
    from sonoedge.train.evaluation.seen import find_seen
    from sonoedge.train.evaluation.subgroups import by_column, shown_metrics, subgroups

    by_column(dataset, columns)  # a wrong column fails before anything is computed
    seen = find_seen(finished, dataset, progress=progress)
    kept = [i for i in range(len(dataset)) if i not in seen.rows]
    if not kept:
        raise UsageError("The run has seen all these images, or copies of them, in training or validation.")
    dataset = dataset.select(kept)
    logits = logits_of(finished, dataset, cache, progress=progress)
    result: dict[str, Any] = {
        "run": finished.path.name,
        "data": dataset.root.name,
        "digest": dataset.digest,
        "images": len(dataset),
        "groups": len(set(dataset.groups)),
        "left_out_as_seen": len(seen.rows),
        "left_out_as_copies": len(seen.copies),
        "not_compared": seen.not_compared,
        "metrics": shown_metrics(dataset, logits, finished.threshold, range(len(dataset))),
        "subgroups": subgroups(dataset, logits, finished.threshold, columns),
        "intended_use": INTENDED_USE,
    }
    return dict(without_nan(result))


def render(result: Mapping[str, Any]) -> str:
    """The result of `score` as a text table; it also needs the key ``earlier_scorings``."""
    from sonoedge.train.evaluation.subgroups import SHOWN, cell

    parts = {"all": result, **result["subgroups"]}
    lines = [
        f"{result['run']} on {result['data']}: {result['images']} images in {result['groups']} groups",
        fitted(
            [Column("", 42, left=True), Column("images", 7), *(Column(name, 22) for name in SHOWN)],
            [
                [name[:41], str(part["images"]), *(cell(part["metrics"][shown]) for shown in SHOWN)]
                for name, part in parts.items()
            ],
        ),
    ]
    if result["left_out_as_seen"]:
        lines.append(
            f"note: {result['left_out_as_seen']} images left out that the run has seen, "
            f"{result['left_out_as_copies']} of them as copies."
        )
    if result["not_compared"]:
        lines.append(
            f"note: {result['not_compared']} images of the run are not where it read them: no copies of these were "
            "looked for."
        )
    if result["earlier_scorings"]:
        lines.append(f"note: this run was scored on these images {result['earlier_scorings']} times before.")
    return "\n".join([*lines, "95 % intervals, by group.", INTENDED_USE])


def logits_of(finished: Run, dataset: Dataset, cache: Path, *, progress: bool) -> np.ndarray:
    """The full model's logits, float64 (N,), through the cache: backbones that runs share see an image once.

    No other run shares the backbone of a student or of a slim model, so the logits of the whole model are cached.
    """
    from sonoedge.train.features.cache import extract_features
    from sonoedge.train.fitting.feature_set import FeatureSet
    from sonoedge.train.fitting.heads import head_logits
    from sonoedge.train.models.fusion import load_model, logit_model, open_model

    if "distillation" in finished.card:
        whole = {"logit": logit_model(load_model(finished.model_path))}
        found = extract_features(whole, dataset.samples, cache=cache, progress=progress)
        return np.asarray(found["logit"][:, 0], np.float64)
    model = open_model(finished.model_path)
    features = extract_features(model.branches, dataset.samples, cache=cache, progress=progress)
    return head_logits(model, FeatureSet(features, dataset.y))
